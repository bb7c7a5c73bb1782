"""How many identities a limit counts apart, and who shares a count."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from redis.crc import key_slot

from apps.ratelimits.policy.identity import digest
from apps.ratelimits.policy.rules import Algorithm, CountedBy, Rate, Rule
from apps.ratelimits.storage import cardinality
from apps.ratelimits.storage.cardinality import IdentityBudgets, period_of
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.known import Known
from apps.ratelimits.storage.topology import Topology

NOW_S = 1_700_000_000.0 - 1_700_000_000 % 3_600
HOUR_S = 3_600


def rule(identities=None, number=1, window_s=HOUR_S, **changes) -> Rule:
    rate = Rate(Algorithm.FIXED_WINDOW, 3, window_s * 1_000_000, 3)
    return Rule(number, f"limit-{number}", rate, identities=identities, **changes)


def who(name: str, number: int = 0) -> str:
    return digest(b"k", name, str(number))


class Process(IdentityBudgets):
    """One of several that share a server."""

    def __init__(self, client, rules, default=0) -> None:
        super().__init__(client, Keys("t:"), lambda parts: digest(b"k", *parts), default)
        self.rule = rules[0]
        self.install(rules)

    def counted(self, digest: str) -> str:
        _, (found,) = self.admit([self.rule], [0], [digest])
        return found

    def apart(self, digest: str) -> bool:
        return self.counted(digest) == digest

    def crowd(self, name: str, count: int, now_s: float = NOW_S, every: int = 10) -> int:
        """How many of so many new ones have a count of their own."""
        apart = 0
        for number in range(count):
            apart += self.apart(who(name, number))
            if number % every == every - 1:
                self.flush(now_s)
        return apart


@pytest.fixture
def client(each_redis):
    made = Topology.parse(each_redis.url, timeout_ms=2_000, max_connections=10).client()
    made.flushdb()
    yield made
    made.close()


@pytest.fixture
def nowhere():
    """A server that is away."""
    made = Topology.parse("redis://127.0.0.1:1", timeout_ms=50, max_connections=10).client()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("window_s", "period_s"),
    [(1, 60), (59, 60), (60, 60), (90, 90), (3_600, 3_600), (86_400, 86_400), (864_000, 86_400)],
)
def test_a_period_is_the_window_within_bounds(window_s, period_s):
    assert period_of(rule(window_s=window_s)) == period_s
    assert cardinality.period_s(window_s) == period_s


@pytest.mark.parametrize(
    ("identities", "default", "budget"), [(None, 7, 7), (5, 7, 5), (0, 7, 0), (None, 0, 0)]
)
def test_the_budget_is_the_limits_own_or_the_sites(nowhere, identities, default, budget):
    process = Process(nowhere, [rule(identities)], default)
    assert process.budget(process.rule) == budget
    everyone = rule(identities, counted_by=(CountedBy.EVERYONE,))
    assert process.budget(everyone) == 0


def test_without_a_budget_nothing_is_remembered_nor_sent(nowhere):
    process = Process(nowhere, [rule(0)])
    assert process.apart(who("a"))
    process.flush(NOW_S)
    assert process.count(process.rule, NOW_S) is None


def test_who_is_new_shares_a_count_once_the_limit_is_over(client):
    process = Process(client, [rule(50)])
    apart = process.crowd("attacker", 200)
    assert 50 < apart <= 50 * 1.1 + 10
    shared = {process.counted(who("attacker", number)) for number in range(150, 200)}
    assert shared == {digest(b"k", "overflow", "1")}
    # And who had a count has it still.
    assert all(process.apart(who("attacker", number)) for number in range(50))


def test_each_limit_has_an_overflow_of_its_own(client):
    first, second, third = rule(1), rule(1, number=2), rule(100, number=3)
    process = Process(client, [first, second, third])
    for name in ("a", "b"):
        process.admit([first, second, third], [0, 0, 0], [who(name)])
    process.flush(NOW_S)
    places, whom = process.admit([first, second, third], [0, 0, 0], [who("c")])
    assert [whom[place] for place in places] == [
        digest(b"k", "overflow", "1"),
        digest(b"k", "overflow", "2"),
        who("c"),
    ]


def test_places_that_nobody_is_counted_at_are_left_out(client):
    process = Process(client, [rule(1), rule(1, number=2)])
    for name in ("a", "b"):
        process.apart(who(name))
    process.flush(NOW_S)
    rules = [process.rule, rule(0, number=9)]
    places, whom = process.admit(rules, [1, 0], [who("a"), who("new")])
    assert [whom[place] for place in places] == [digest(b"k", "overflow", "1"), who("a")]
    assert len(whom) == 2


def test_whom_one_process_admitted_all_know(client):
    one, other = Process(client, [rule(50)]), Process(client, [rule(50)])
    one.apart(who("visitor"))
    one.flush(NOW_S)
    one.crowd("attacker", 200)
    other.apart(who("somebody"))
    other.flush(NOW_S)
    assert other.apart(who("visitor"))
    assert not other.apart(who("newcomer"))
    # Whom another admitted before it knew, a second look finds.
    late = Process(client, [rule(50)])
    assert late.apart(who("late"))
    late.flush(NOW_S + 0.5)
    assert not other.apart(who("late"))
    other.flush(NOW_S + 1)
    assert other.apart(who("late"))


def test_the_end_of_the_period_frees_the_budget(client):
    process = Process(client, [rule(50)])
    process.crowd("attacker", 200)
    assert not process.apart(who("newcomer"))
    process.flush(NOW_S + HOUR_S - 1)
    assert not process.apart(who("newcomer"))
    process.flush(NOW_S + HOUR_S)
    assert process.apart(who("newcomer"))
    assert process.count(process.rule, NOW_S + HOUR_S).came == 0


def test_who_had_a_count_in_the_last_period_keeps_it_while_the_attack_goes_on(client):
    process = Process(client, [rule(50)])
    process.apart(who("visitor"))
    process.flush(NOW_S)
    for hour in range(5):
        now_s = NOW_S + hour * HOUR_S
        process.flush(now_s)
        process.crowd(f"attacker of {hour}", 100, now_s)
        # He comes when the limit is over already.
        assert not process.apart(who("newcomer"))
        assert process.apart(who("visitor"))
        process.flush(now_s)


def test_those_carried_over_are_bounded_too(client):
    """An attacker who comes again with what had a count, and with more each hour."""
    process = Process(client, [rule(50)])
    for hour in range(6):
        now_s = NOW_S + hour * HOUR_S
        process.flush(now_s)
        apart = process.crowd(f"attacker of {hour}", 100, now_s)
        for before in range(hour):
            apart += process.crowd(f"attacker of {before}", 100, now_s)
        assert apart <= 2 * 50 * 1.1 + 2 * 10


def test_redis_that_has_lost_it_all_begins_anew(client):
    process = Process(client, [rule(50)])
    process.crowd("attacker", 100)
    client.flushdb()
    process.forget()
    process.apart(who("visitor"))
    process.flush(NOW_S)
    assert process.count(process.rule, NOW_S).came == 1
    assert process.apart(who("newcomer"))


def test_what_could_not_be_told_waits(client, nowhere):
    process = Process(nowhere, [rule(50)])
    process.apart(who("visitor"))
    with pytest.raises(Unavailable):
        process.flush(NOW_S)
    process._client = client
    process.flush(NOW_S)
    assert process.count(process.rule, NOW_S).came == 1


def test_while_redis_is_away_what_was_known_last_holds_for_its_period(client, nowhere):
    limits = [rule(50), rule(50, number=2)]
    process = Process(client, limits)
    process.apart(who("visitor"))
    process.crowd("attacker", 200)
    process._client = nowhere
    assert not process.apart(who("newcomer"))
    with pytest.raises(Unavailable):
        process.flush(NOW_S + 1)
    assert not process.apart(who("newcomer"))
    assert process.apart(who("visitor"))
    process.flush(NOW_S + HOUR_S)
    assert process.apart(who("newcomer"))


def test_a_limit_is_not_over_before_the_known_ones_are_at_hand(client, monkeypatch):
    """Else those whom it knows would share the count of those whom it does not."""
    process = Process(client, [rule(2)])
    for name in "abc":
        process.apart(who(name))

    def fail(limit, period) -> Known:
        raise Unavailable("away")

    monkeypatch.setattr(process, "_read", fail)
    with pytest.raises(Unavailable):
        process.flush(NOW_S)
    assert process.apart(who("d"))
    monkeypatch.undo()
    process.flush(NOW_S)
    assert not process.apart(who("e"))


def test_memory_is_bounded_whatever_comes(nowhere, monkeypatch):
    monkeypatch.setattr(cardinality, "MOST_ADMITTED", 100)
    monkeypatch.setattr(cardinality, "MOST_WAITING", 30)
    process = Process(nowhere, [rule(10)])
    (limit,) = process._limits.values()
    for number in range(1_000):
        process.counted(who("a", number))
        process.settle((None, (who("a", number),)))
        assert len(limit.admitted) <= 100
        assert len(limit.waiting) <= 30
        assert len(process.settled) <= 100
    limit.over = True
    for number in range(1_000):
        process.counted(who("b", number))
    assert len(limit.arrived) <= 30
    for _ in range(3):  # What cannot be told goes back, and adds up to no more.
        with pytest.raises(Unavailable):
            process.flush(NOW_S)
        process.counted(who("c"))
    assert len(limit.arrived) <= 30 + 1


def test_a_long_filter_is_read_in_pieces(client, monkeypatch):
    monkeypatch.setattr(cardinality, "READ_BYTES", 1_000)
    process = Process(client, [rule(50)])
    process.crowd("visitor", 200)
    (limit,) = process._limits.values()
    known = client.get(Keys("t:").identities_known(process.rule, int(NOW_S) // HOUR_S))
    assert process._read(limit, limit.period)._bits == known


def test_an_edit_that_leaves_the_count_alone_forgets_nobody(client):
    process = Process(client, [rule(50)])
    process.apart(who("visitor"))
    process.crowd("attacker", 200)
    process.install([rule(50, message="Later."), rule(7, number=2)])
    assert not process.apart(who("newcomer"))
    assert process.apart(who("visitor"))


def test_another_budget_holds_at_the_next_look(client):
    process = Process(client, [rule(50)])
    process.crowd("visitor", 40)
    assert process.apart(who("newcomer"))
    process.install([rule(20)])
    process.flush(NOW_S)
    assert not process.apart(who("another"))
    assert all(process.apart(who("visitor", number)) for number in range(40))
    process.install([rule(100)])
    process.flush(NOW_S)
    assert process.apart(who("another"))


@pytest.mark.parametrize("changed", [{"epoch": 1}, {"window_s": 7_200}])
def test_a_count_that_begins_afresh_has_room_again(client, changed):
    process = Process(client, [rule(50)])
    process.crowd("attacker", 200)
    process.install([rule(50, **changed)])
    process.flush(NOW_S)
    assert process.apart(who("newcomer"))


def test_settled_checks_end_with_a_period_and_with_a_ruleset(client):
    process = Process(client, [rule(50)])
    process.flush(NOW_S)
    for end in (
        lambda: process.flush(NOW_S + HOUR_S),
        lambda: process.install([rule(50)]),
        process.forget,
    ):
        process.settle((None, (who("a"),)))
        end()
        assert process.settled == set()


def test_the_log_says_once_that_it_is_over_and_once_that_it_is_not(client, caplog):
    caplog.set_level(logging.INFO)
    process = Process(client, [rule(50)])
    for hour in range(3):
        process.flush(NOW_S + hour * HOUR_S)
        process.crowd("attacker", 200, NOW_S + hour * HOUR_S)
    assert len(caplog.messages) == 1
    assert "Limit limit-1: about " in caplog.messages[0]
    assert "over its budget of 50; new ones share one count" in caplog.messages[0]
    # Within it for a whole hour: an attack that pauses for a moment is one attack.
    process.flush(NOW_S + 3 * HOUR_S)
    assert len(caplog.messages) == 1
    process.flush(NOW_S + 4 * HOUR_S)
    assert caplog.messages[1:] == ["Limit limit-1 is within its identity budget again"]
    process.flush(NOW_S + 5 * HOUR_S)
    assert len(caplog.messages) == 2


def test_the_count_is_told(client):
    process = Process(client, [rule(50)])
    process.crowd("visitor", 20)
    before = process.count(process.rule, NOW_S)
    assert (before.came, before.budget, before.period_s) == (20, 50, HOUR_S)
    assert before.over_since_s is None
    process.crowd("attacker", 200)
    after = process.count(process.rule, NOW_S)
    assert after.came == pytest.approx(220, rel=0.05)
    assert after.over_since_s == pytest.approx(client.time()[0], abs=5)


def test_a_server_that_has_lost_the_script_is_given_it(client):
    process = Process(client, [rule(50)])
    client.script_flush()
    process.apart(who("visitor"))
    process.flush(NOW_S)
    assert process.count(process.rule, NOW_S).came == 1


def test_all_that_a_call_names_lies_in_one_slot_of_a_cluster():
    keys, limit = Keys("t:"), rule(50)
    named = [keys.identities_came(limit, 1), keys.identities_own(limit, 1)]
    named += [keys.identities_known(limit, 1), keys.identities_over(limit)]
    assert len(set(named)) == 4
    assert len({key_slot(key.encode()) for key in named}) == 1


def test_a_budget_out_of_bounds_is_refused():
    from apps.ratelimits.policy.errors import PolicyError

    with pytest.raises(PolicyError, match="use 0 to 10,000,000"):
        replace(rule(), identities=10_000_001)
