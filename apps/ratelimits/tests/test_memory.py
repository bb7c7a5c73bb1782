"""Denials that a process remembers: asked once, denied until their time, and not longer."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.ratelimits.engine import Engine
from apps.ratelimits.models import RateLimit
from apps.ratelimits.policy.decision import Decision
from apps.ratelimits.policy.facts import RequestFacts
from apps.ratelimits.policy.rules import Algorithm, Counts, Mode, Rate, Rule
from apps.ratelimits.storage import memory
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.memory import Denials
from apps.ratelimits.storage.packing import PackedLimits

from .limiters import A, B, Oracle, make_limiter, rule

ROOT = Path(__file__).resolve().parents[3]
KEYS = Keys("iota:")
REMEMBERED = [a for a in Algorithm if a is not Algorithm.CONCURRENCY]
SOON_OVER_US = 60_000_000_000 - 2_000_000
"""Two seconds before the end of a minute."""
TICK_S = 1e-7
"""A request comes some time within the microsecond that the server names."""


class Clock:
    def __init__(self, now_us: int = SOON_OVER_US) -> None:
        self.now_us = now_us

    def __call__(self) -> float:
        return self.now_us / 1_000_000 + TICK_S


def denied(packed: PackedLimits) -> list[int]:
    """A reply in which every limit, all fixed windows of a minute, is used up."""
    reply = [0, SOON_OVER_US]
    for limit in packed.rules:
        reply += [0, SOON_OVER_US - 58_000_000, limit.rate.quota, 0]
    return reply


def one(number=1, **changes) -> PackedLimits:
    return PackedLimits(KEYS, [rule(number=number, **changes)], [0])


# What is kept, by a clock that is passed in.


def test_a_denial_is_recalled_until_its_time_and_not_a_microsecond_longer():
    clock, packed = Clock(), one()
    denials = Denials(clock)
    denials.keep((packed, (A,)), denied(packed), 2_000_000, clock.now_us / 1e6)
    assert not denials.recall((packed, (A,))).allowed
    clock.now_us += 1_999_999
    assert denials.recall((packed, (A,))).retry_after_us == 1
    clock.now_us += 1
    assert denials.recall((packed, (A,))) is None
    assert len(denials) == 0


def test_its_time_counts_from_when_it_was_asked_for():
    clock, packed = Clock(), one()
    denials, asked_s = Denials(clock), clock.now_us / 1e6
    clock.now_us += 1_500_000  # So long the reply was on its way.
    denials.keep((packed, (A,)), denied(packed), 2_000_000, asked_s)
    assert denials.recall((packed, (A,))).retry_after_us == 500_000
    clock.now_us += 500_000
    assert denials.recall((packed, (A,))) is None


def test_another_identity_set_of_limits_or_cost_is_another_denial():
    clock, packed = Clock(), one()
    denials = Denials(clock)
    denials.keep((packed, (A,)), denied(packed), 2_000_000, clock())
    (limit,) = packed.rules
    dearer = replace(limit, rate=replace(limit.rate, cost=2))
    assert denials.recall((packed, (B,))) is None
    assert denials.recall((one(number=2), (A,))) is None
    assert denials.recall((PackedLimits(KEYS, [dearer], [0]), (A,))) is None
    assert denials.recall((packed, (A,))) is not None


def test_the_oldest_denial_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(memory, "MOST_DENIALS", 3)
    clock, packed = Clock(), one()
    denials = Denials(clock)
    for who in "abcad":  # That of a is newer than those of b and c.
        denials.keep((packed, (who,)), denied(packed), 2_000_000, clock())
    assert len(denials) == 3
    assert [who for who in "abcd" if denials.recall((packed, (who,)))] == ["a", "c", "d"]


def test_a_denial_that_is_kept_again_pushes_out_no_other(monkeypatch):
    monkeypatch.setattr(memory, "MOST_DENIALS", 2)
    clock, packed = Clock(), one()
    denials = Denials(clock)
    for who in "abbb":
        denials.keep((packed, (who,)), denied(packed), 2_000_000, clock())
    assert denials.recall((packed, ("a",))) is not None


def test_forgetting_is_of_those_identities_in_whatever_place():
    clock, packed = Clock(), one()
    pair = PackedLimits(KEYS, [rule(number=1), rule(number=2)], [0, 1])
    denials = Denials(clock)

    def keep_all():
        for whom in ((packed, (A,)), (packed, (B,)), (pair, (A, B)), (pair, (B, A))):
            denials.keep(whom, denied(whom[0]), 2_000_000, clock())

    keep_all()
    denials.forget([B])
    assert len(denials) == 1
    assert denials.recall((packed, (A,))) is not None
    keep_all()
    denials.forget(None)
    assert len(denials) == 0


def test_threads_that_keep_recall_and_forget_at_once_break_nothing(monkeypatch):
    monkeypatch.setattr(memory, "MOST_DENIALS", 20)
    packed, failed = one(), []
    denials = Denials()
    reply = denied(packed)

    def hammer(seed: int) -> None:
        try:
            for turn in range(1_500):
                who = str((turn * 7 + seed) % 60)
                denials.keep((packed, (who,)), reply, 2_000_000, time.monotonic())
                denials.recall((packed, (str(turn % 60),)))
                if turn % 50 == seed:
                    denials.forget([who])
        except BaseException as error:
            failed.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert failed == []
    assert len(denials) <= 20 + len(threads)


@st.composite
def rates(draw, blocks=True):
    algorithm = draw(st.sampled_from(REMEMBERED))
    quota = draw(st.integers(1, 7))
    burst = draw(st.integers(1, 7))
    capacity = burst if algorithm is Algorithm.TOKEN_BUCKET else quota
    return Rate(
        algorithm,
        quota,
        draw(st.sampled_from([70_000, 100_000, 300_001])),
        burst,
        draw(st.integers(1, capacity)),
        block_us=draw(st.sampled_from([0, 0, 40_000, 150_000])) if blocks else 0,
    )


def limits_of(some_rates) -> list[Rule]:
    return [Rule(id=n, name=f"limit-{n}", rate=rate) for n, rate in enumerate(some_rates, 1)]


class Remembering:
    """A limiter as RateLimiter is one, on the arithmetic instead of Redis."""

    def __init__(self, packed: PackedLimits, oracle: Oracle, clock: Clock) -> None:
        self.packed, self.oracle, self.clock = packed, oracle, clock
        self.denials = Denials(clock)

    def check(self) -> tuple[Decision, bool]:
        """The decision, and whether it was remembered."""
        whom = self.packed, (A,)
        if (known := self.denials.recall(whom)) is not None:
            return known, True
        now_us = self.clock.now_us
        reply = self.oracle.expect([Target(r, A) for r in self.packed.rules], now_us)
        decision = Decision.from_reply(reply[0] == 1, self.packed, reply)
        if not decision.allowed:
            self.denials.keep(whom, reply, decision.retry_after_us, now_us / 1_000_000)
        return decision, False


@given(
    st.lists(rates(), min_size=1, max_size=3),
    st.lists(
        st.tuples(
            st.sampled_from(["me", "me", "other"]), st.integers(0, 40_000), st.integers(0, 7)
        ),
        max_size=60,
    ),
)
@example(
    # A block that is shorter than the window: whoever asks again after it is blocked anew.
    [Rate(Algorithm.FIXED_WINDOW, 1, 300_001, 1, block_us=40_000)],
    [("me", 30_000, 0)] * 14,
)
def test_who_is_remembered_is_decided_as_if_each_request_had_been_asked(some_rates, steps):
    limits = limits_of(some_rates)
    clock, packed = Clock(), PackedLimits(KEYS, limits, [0] * len(limits))
    mine = Remembering(packed, Oracle(), clock)
    plain = Oracle()
    for who, pause_us, subset in steps:
        clock.now_us += pause_us
        if who == "other":  # Requests of other paths, which match some of the limits.
            chosen = [Target(r, A) for n, r in enumerate(limits) if subset >> n & 1]
            said = [oracle.expect(chosen, clock.now_us) for oracle in (mine.oracle, plain)]
            assert said[0] == said[1]
            continue
        decision, _ = mine.check()
        asked = plain.expect([Target(r, A) for r in packed.rules], clock.now_us)
        assert decision.allowed == bool(asked[0])


@given(
    st.lists(rates(blocks=False) | rates(), min_size=1, max_size=3),
    st.lists(st.integers(0, 30_000), min_size=10, max_size=40),
)
@example(
    # The shorter window turns, twice, while the longer one still denies.
    [
        Rate(Algorithm.FIXED_WINDOW, 2, 300_001, 2, 2),
        Rate(Algorithm.FIXED_WINDOW, 3, 70_000, 3),
        Rate(Algorithm.SLIDING_WINDOW, 3, 70_000, 3),
    ],
    [30_000] * 12,
)
@example(
    # A block that ends when the log has had room for a while.
    [Rate(Algorithm.SLIDING_LOG, 2, 70_000, 1, block_us=40_000)],
    [0, 2, 29_999, 0, 9_999, 30_000],
)
def test_what_a_remembered_denial_says_is_what_asking_would_say(some_rates, pauses):
    limits = limits_of(some_rates)
    clock, packed = Clock(), PackedLimits(KEYS, limits, [0] * len(limits))
    mine = Remembering(packed, Oracle(), clock)
    for pause_us in pauses:
        clock.now_us += pause_us
        decision, remembered = mine.check()
        if not remembered:
            continue
        asked = copy.deepcopy(mine.oracle).expect(
            [Target(r, A) for r in packed.rules], clock.now_us
        )
        expected = Decision.from_reply(False, packed, asked)
        assert decision.retry_after_us == expected.retry_after_us
        assert decision.violated == expected.violated
        for verdict, by_asking in zip(decision.verdicts, expected.verdicts, strict=True):
            rate, standing = verdict.rule.rate, verdict.standing
            assert verdict.allowed == by_asking.allowed
            assert 0 <= standing.remaining <= max(rate.quota, rate.burst)
            assert min(standing.retry_after_us, standing.reset_us, standing.steady_us) >= 0
            if rate.algorithm is not Algorithm.SLIDING_LOG:  # Its log is not known here.
                assert standing == by_asking.standing


# With a server.


@pytest.fixture
def limiter(each_redis):
    made = make_limiter(each_redis.url)
    made.client.flushdb()
    yield made
    made.close()


def asked(limiter) -> int:
    """How many scripts the server has run."""
    stats = limiter.client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


def use_up(limiter, targets):
    """The first denial."""
    while (decision := limiter.check(targets)).allowed:
        pass
    return decision


@pytest.mark.parametrize("algorithm", REMEMBERED)
def test_the_second_denial_asks_nobody(limiter, algorithm):
    targets = [Target(rule(algorithm, quota=2), A)]
    first = use_up(limiter, targets)
    before = asked(limiter)
    again = [limiter.check(targets) for _ in range(20)]
    assert asked(limiter) == before
    assert not any(decision.allowed for decision in again)
    waits = [first.retry_after_us, *(decision.retry_after_us for decision in again)]
    assert waits == sorted(waits, reverse=True)
    assert 0 < waits[-1] < waits[0] <= 120_000_000
    assert again[-1].violated == first.violated
    assert limiter.check([Target(targets[0].rule, B)]).allowed


async def test_the_second_denial_asks_nobody_on_the_event_loop(limiter):
    targets = [Target(rule(quota=1), A)]
    await limiter.acheck(targets)
    assert not (await limiter.acheck(targets)).allowed
    before = asked(limiter)
    assert not (await limiter.acheck(targets)).allowed
    assert not limiter.check(targets).allowed
    assert asked(limiter) == before
    await limiter.aclose()


@pytest.mark.parametrize("algorithm", REMEMBERED)
@pytest.mark.parametrize("block_us", [0, 30_000])
def test_in_real_time_it_decides_as_a_limiter_without_memory(each_redis, algorithm, block_us):
    """Both ask in turn about identities of their own, with equal limits and windows."""
    with_memory, without = make_limiter(each_redis.url), make_limiter(each_redis.url)
    with_memory.client.flushdb()
    limit = rule(algorithm, quota=3, window_us=50_000, block_us=block_us)
    began_s, remembered = time.monotonic(), 0
    passed = {A: [], B: []}
    # Longer where the machine has other things to do.
    while (lasted_s := time.monotonic() - began_s) < 0.5 or (remembered <= 50 and lasted_s < 10):
        before = len(with_memory.denials)
        began = time.monotonic()
        if with_memory.check([Target(limit, A)]).allowed:
            passed[A].append(began)
        remembered += before
        if without.traced_check([Target(limit, B)])[1].allowed:
            passed[B].append(began)
        without.forget(None)
    assert remembered > 50
    # Each moment at which one allowed the other did too, but for the trip between them.
    assert len(passed[A]) >= 9 or block_us
    assert abs(len(passed[A]) - len(passed[B])) <= 3
    late = [min(abs(one - other) for other in passed[A]) for one in passed[B]]
    assert sorted(late)[len(late) // 2] < 0.008
    with_memory.close()
    without.close()


@pytest.mark.parametrize("algorithm", [Algorithm.FIXED_WINDOW, Algorithm.TOKEN_BUCKET])
def test_it_is_allowed_again_as_soon_as_the_time_is_over(limiter, algorithm):
    targets = [Target(rule(algorithm, quota=2, window_us=60_000), A)]
    for _ in range(4):
        first = use_up(limiter, targets)
        free_s = time.monotonic() + first.retry_after_us / 1e6
        asked_s = time.monotonic()
        while not limiter.check(targets).allowed:
            assert asked_s < free_s + 0.02
            asked_s = time.monotonic()


NOT_REMEMBERED = {
    "charges denials": rule(Algorithm.TOKEN_BUCKET, charge_denied=True, number=2),
    "is shadow": rule(mode=Mode.SHADOW, number=2),
    "counts by response": rule(counts=Counts.STATUS, statuses=((400, 499),), number=2),
    "counts slots": rule(Algorithm.CONCURRENCY, quota=100, number=2),
}


@pytest.mark.parametrize("beside", NOT_REMEMBERED.values(), ids=NOT_REMEMBERED)
def test_no_denial_is_remembered_where_a_matching_limit(limiter, beside):
    targets = [Target(rule(quota=1), A), Target(beside, A)]
    use_up(limiter, targets)
    before = asked(limiter)
    assert not limiter.check(targets).allowed
    assert asked(limiter) > before
    # Nor by itself, where it is what denies.
    alone = [Target(replace(beside, id=3), B)]
    for _ in range(5):
        limiter.check(alone)
    assert len(limiter.denials) == 0


def test_a_shadow_limit_counts_every_request_although_another_denies(limiter):
    shadow = rule(quota=1, mode=Mode.SHADOW, number=2, charge_denied=True)
    targets = [Target(rule(quota=1), A), Target(shadow, A)]
    assert [limiter.check(targets).allowed for _ in range(3)] == [True, False, False]


def test_a_look_always_asks(limiter):
    targets = [Target(rule(quota=1), A)]
    use_up(limiter, targets)
    assert len(limiter.denials) == 1
    other = make_limiter(url_of(limiter))
    other.reset([A])
    assert limiter.peek(targets).remaining == 1
    assert not limiter.check(targets).allowed
    other.close()


def url_of(limiter) -> str:
    options = limiter.client.connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/0"


def test_a_reset_in_this_process_is_in_force_at_once(limiter):
    targets = [Target(rule(quota=1), A)]
    others = [Target(rule(quota=1), B)]
    use_up(limiter, targets)
    use_up(limiter, others)
    limiter.reset([A])
    assert limiter.check(targets).allowed
    before = asked(limiter)
    assert not limiter.check(others).allowed
    assert asked(limiter) == before


def test_an_answer_that_was_on_its_way_during_a_reset_is_not_kept(limiter, monkeypatch):
    targets = [Target(rule(quota=1), A)]
    limiter.check(targets)
    ask, others = limiter.redis.connections.ask, []

    def slow(command, *more):
        reply = ask(command, *more)
        if not others:
            others.append(command)
            limiter.reset([A])  # Another thread's, while the denial travels.
        return reply

    monkeypatch.setattr(limiter.redis.connections, "ask", slow)
    assert not limiter.check(targets).allowed
    assert len(limiter.denials) == 0
    assert limiter.check(targets).allowed


def test_an_answer_that_is_kept_while_another_thread_resets_does_not_stay(limiter, monkeypatch):
    targets = [Target(rule(quota=1), A)]
    limiter.check(targets)
    keep = limiter.denials.keep

    def slow(*arguments):
        limiter.reset([A])  # Another thread's turn comes between the comparison and this.
        keep(*arguments)

    monkeypatch.setattr(limiter.denials, "keep", slow)
    assert not limiter.check(targets).allowed
    assert limiter.check(targets).allowed


def test_another_ruleset_forgets_what_was_denied(limiter):
    targets = [Target(rule(quota=1), A)]
    use_up(limiter, targets)
    limiter.forget_rules()
    assert len(limiter.denials) == 0
    before = asked(limiter)
    assert not limiter.check(targets).allowed
    assert asked(limiter) == before + 1


# With an engine, and with another process.

ELSEWHERE = """
import sys, time
import django
django.setup()
from apps.ratelimits.engine import get_engine
from apps.ratelimits.policy.facts import RequestFacts
engine = get_engine()
engine.start()
print("ready", flush=True)
for address in sys.stdin:
    facts = RequestFacts("GET", "/api/test", address.strip())
    decision = engine.check(engine.plan(engine.candidates(facts), facts))
    held = sum(len(lease.uses) for lease in engine.limiter.leases._held.values())
    print(int(decision.allowed), len(engine.limiter.denials), held, flush=True)
"""


class Elsewhere:
    """Another process with an engine of its own, on the same server."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ELSEWHERE],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "iota.settings"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def check(self, address: str) -> tuple[bool, int, int]:
        """Whether it was allowed, how many denials are remembered there, and units held."""
        self.process.stdin.write(f"{address}\n")
        self.process.stdin.flush()
        allowed, denials, held = self.process.stdout.readline().split()
        return allowed == "1", int(denials), int(held)

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


def check(engine: Engine, address: str) -> Decision:
    facts = RequestFacts("GET", "/api/test", address)
    return engine.check(engine.plan(engine.candidates(facts), facts))


def digests(engine: Engine, address: str) -> tuple[str, ...]:
    facts = RequestFacts("GET", "/api/test", address)
    return engine.plan(engine.candidates(facts), facts).whom


def make(**changes) -> RateLimit:
    values = {"name": "one", "quota": 1, "path_kind": "exact", "path": "/api/test"}
    values |= {"algorithm": "fixed_window", "window_unit": 86_400}
    return RateLimit.objects.create(**{**values, **changes})


def test_a_reset_in_one_process_is_in_force_in_another_within_a_second(engine):
    make()
    engine.refresh()
    elsewhere = Elsewhere()
    try:
        elsewhere.check("192.0.2.1")
        assert elsewhere.check("192.0.2.1")[:2] == (False, 1)
        elsewhere.check("192.0.2.2")
        assert elsewhere.check("192.0.2.2")[:2] == (False, 2)
        engine.reset(digests(engine, "192.0.2.1"))
        began = time.monotonic()
        while not elsewhere.check("192.0.2.1")[0]:
            assert time.monotonic() < began + 1
            time.sleep(0.01)
        assert elsewhere.check("192.0.2.2")[0] is False
    finally:
        elsewhere.stop()


def test_an_edit_forgets_what_was_denied(engine):
    limit = make()
    engine.refresh()
    assert check(engine, "192.0.2.1").allowed
    assert not check(engine, "192.0.2.1").allowed
    limit.quota = 10
    limit.save()
    engine.refresh()
    assert check(engine, "192.0.2.1").allowed


def test_what_was_denied_is_forgotten_where_redis_has_lost_everything(engine, redis_client):
    make()
    engine.refresh()
    check(engine, "192.0.2.1")
    assert not check(engine, "192.0.2.1").allowed
    redis_client.flushall()
    engine.refresh()
    assert check(engine, "192.0.2.1").allowed


def test_a_process_that_comes_second_forgets_too_where_redis_has_lost_everything(
    engine, redis_client
):
    make()
    engine.refresh()
    elsewhere = Elsewhere()
    try:
        elsewhere.check("192.0.2.1")
        assert elsewhere.check("192.0.2.1") == (False, 1, 0)
        redis_client.flushall()
        engine.publish()
        deadline = time.monotonic() + 1
        while not elsewhere.check("192.0.2.1")[0]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        elsewhere.stop()
