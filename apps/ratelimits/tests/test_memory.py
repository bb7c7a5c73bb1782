"""Denials that a process remembers, by a clock that is passed in: until their time, not longer."""

from __future__ import annotations

import copy
import sys
import threading
import time
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from apps.ratelimits.policy.decision import Decision
from apps.ratelimits.policy.rules import Algorithm, Rate, Rule
from apps.ratelimits.storage import memory
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.memory import Denials
from apps.ratelimits.storage.packing import PackedLimits

from .limiters import REMEMBERED, A, B, Oracle, rule

KEYS = Keys("iota:")
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
