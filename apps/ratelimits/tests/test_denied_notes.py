"""What a process notes of its denials: added up, bounded, and sent without what is personal."""

from __future__ import annotations

import tracemalloc

import pytest

from apps.ratelimits.policy.identity import Digests
from apps.ratelimits.storage import denied
from apps.ratelimits.storage import denied_notes as module
from apps.ratelimits.storage.denied import HOUR_S, MOST_PER_HOUR
from apps.ratelimits.storage.denied_notes import (
    MOST_COUNTED,
    MOST_IDENTITIES,
    MOST_LIMITS,
    MOST_SENT,
    MOST_SENT_OF_A_LIMIT,
    MOST_WAITING,
    DeniedNotes,
    Noted,
)
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.packing import PackedLimits

from .limiters import rule
from .test_denied import NOW_S, who

DIGESTS = Digests(b"key")
HOUR = int(NOW_S) // HOUR_S


class Sent:
    def __init__(self):
        self.batches = []
        self.away = False

    def add(self, batch):
        if self.away:
            raise Unavailable("away")
        self.batches.append(batch)
        return denied.Sent(frozenset(batch.most), True, None)


def noted(name="ada", *, limits=(1,), at_s=NOW_S, path="/api/test", **changes) -> Noted:
    values = {
        "limits": None,
        "whom": (who(name),) * len(limits),
        "denied": limits,
        "method": "GET",
        "path": path,
        "address": "203.0.113.9",
        "why": "limit",
    }
    return Noted(at_s, **{**values, **changes})


@pytest.fixture
def clock():
    return [100.0]


@pytest.fixture
def notes(clock):
    return DeniedNotes(DIGESTS, lambda path: (f"kept{path}", "view", True), lambda: clock[0])


def test_alike_denials_are_one_with_their_number(notes):
    for at in range(3):
        notes.note(noted(at_s=NOW_S + at))
    notes.note(noted("bob", limits=(1, 2)))
    store = Sent()
    assert notes.flush(store)
    (batch,) = store.batches
    assert [(one.times, one.denied) for one in batch.recent] == [(1, (1, 2)), (3, (1,))]
    first = batch.recent[1]
    assert first.at_ms == int((NOW_S + 2) * 1000)
    assert (first.path, first.view) == ("kept/api/test", "view")
    assert first.address == DIGESTS.of(("address", "203.0.113.9"))
    assert "203.0.113.9" not in str(batch)
    assert batch.most == {
        (1, HOUR): {who("ada"): (3, 0, ()), who("bob"): (1, 0, ())},
        (2, HOUR): {who("bob"): (1, 0, ())},
    }


def test_once_a_second_and_nothing_where_there_is_nothing(notes, clock):
    store = Sent()
    assert not notes.flush(store)
    notes.note(noted())
    assert notes.flush(store)
    notes.note(noted())
    assert not notes.flush(store)
    assert notes.flush(store, now=True)
    notes.note(noted())
    clock[0] += 1
    assert notes.flush(store)
    assert [len(batch.recent) for batch in store.batches] == [1, 1, 1]


def test_where_redis_is_away_it_waits(notes, clock):
    store = Sent()
    store.away = True
    for _ in range(2):
        notes.note(noted())
        clock[0] += 1
        with pytest.raises(Unavailable):
            notes.flush(store)
    store.away = False
    clock[0] += 1
    assert notes.flush(store)
    assert store.batches[0].most == {(1, HOUR): {who("ada"): (2, 0, ())}}
    assert not notes.flush(store, now=True)


def test_an_attack_from_ever_new_addresses_takes_bounded_memory(notes):
    """While Redis is away, too: long paths, new addresses, many limits."""
    store = Sent()
    store.away = True
    tracemalloc.start()
    for round_ in range(2):
        for n in range(MOST_WAITING + 100):
            limits = (n % (2 * MOST_LIMITS),)
            notes.note(noted((round_, n), limits=limits, path="/" + str(n) + "x" * 190))
        with pytest.raises(Unavailable):
            notes.flush(store, now=True)
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes < 40_000_000
    store.away = False
    notes.flush(store, now=True)
    (batch,) = store.batches
    assert len(batch.most) <= MOST_LIMITS
    assert len(batch.recent) <= MOST_SENT


def test_who_asks_most_is_sent_whoever_else_comes(notes):
    for n in range(10 * MOST_IDENTITIES):
        notes.note(noted(n))
        if n % 20 == 0:
            notes.note(noted("heavy"))
        if n % 500 == 0:
            notes.gather()
    store = Sent()
    notes.flush(store)
    rows = store.batches[0].most[1, HOUR]
    assert len(rows) == MOST_PER_HOUR
    assert next(iter(rows)) == who("heavy")
    times, other, _ = rows[who("heavy")]
    assert times - other <= 10 * MOST_IDENTITIES // 20 <= times


def test_a_limit_under_attack_leaves_room_for_the_denials_of_others(notes):
    notes.note(noted("ada", limits=(2,)))
    for n in range(1_000):
        notes.note(noted(n))
    store = Sent()
    notes.flush(store)
    found = [one.denied for one in store.batches[0].recent]
    assert found == [(2,)] + [(1,)] * MOST_SENT_OF_A_LIMIT


def test_of_many_limits_those_that_denied_are_kept():
    many = [rule(number=number) for number in range(1, 40)]
    limits = PackedLimits(Keys("iota:"), many, [0] * 39)
    one = noted(limits=(39,), whom=(who("ada"),))._replace(limits=limits)
    assert len(one.counted) == MOST_COUNTED
    assert one.counted[0] == (39, who("ada"))


def test_a_method_is_letters_or_unknown(notes):
    for method in ("PURGE", "ADA@X", "É", ""):
        notes.note(noted(method=method))
    store = Sent()
    notes.flush(store)
    assert [one.method for one in store.batches[0].recent] == ["PURGE", "?", "?", "?"]


def test_names_go_with_what_they_are_of(notes):
    named = (("address", "203.0.113.9"),)
    notes.note(noted(names=((1, named),)))
    store = Sent()
    notes.flush(store)
    (batch,) = store.batches
    assert batch.recent[0].names == {1: named}
    assert batch.most[1, HOUR][who("ada")] == (1, 0, named)


def test_a_forked_child_begins_at_nothing(notes):
    notes.note(noted())
    notes._begin()
    assert not notes.flush(Sent(), now=True)
    assert module.FLUSH_S < 1


def test_what_redis_has_taken_is_not_sent_again_where_the_rest_fails(notes, redis_client):
    """A key of another kind stands for a part of a cluster that is away."""
    keys = Keys("test:")
    store = denied.DeniedStore(redis_client, keys)
    redis_client.set(keys.denied_most(2, HOUR), "in the way")
    notes.note(noted(limits=(1,)))
    notes.note(noted(limits=(2,)))
    with pytest.raises(Unavailable, match="WRONGTYPE"):
        notes.flush(store, now=True)
    redis_client.delete(keys.denied_most(2, HOUR))
    assert notes.flush(store, now=True)
    for limit in (1, 2):
        (most,) = store.top(limit, NOW_S, NOW_S, 5)
        assert most.times == 1
    assert len(store.recent()) == 2
    assert not notes.flush(store, now=True)
