"""One decision of many verdicts."""

from __future__ import annotations

from apps.ratelimits.policy.algorithms import Standing
from apps.ratelimits.policy.decision import ALLOWED, Held, Verdict, decide_all
from apps.ratelimits.policy.rules import Algorithm, Mode, Rate, Rule


def verdict(name, allowed=True, *, quota=10, remaining=5, retry_us=0, mode=Mode.ENFORCE):
    rule = Rule(1, name, Rate(Algorithm.FIXED_WINDOW, quota, 1_000_000, quota), mode=mode)
    return Verdict(rule, allowed, Standing(remaining, retry_us, 900_000, 800_000))


def test_no_limit_allows_and_says_nothing():
    for decision in (decide_all([]), ALLOWED):
        assert decision.allowed
        assert decision.limit is None
        assert decision.remaining is None
        assert decision.retry_after_us == decision.reset_us == 0
        assert decision.violated == decision.verdicts == ()


def test_one_denial_denies():
    decision = decide_all([verdict("a"), verdict("b", False, remaining=0, retry_us=7)])
    assert not decision.allowed
    assert [rule.name for rule in decision.violated] == ["b"]
    assert (decision.remaining, decision.retry_after_us) == (0, 7)


def test_the_denial_that_lasts_longest_speaks():
    decision = decide_all(
        [
            verdict("a", False, quota=10, remaining=0, retry_us=7),
            verdict("b", False, quota=20, remaining=1, retry_us=9),
            verdict("c", remaining=0),
        ]
    )
    assert (decision.limit, decision.remaining, decision.retry_after_us) == (20, 1, 9)
    assert [rule.name for rule in decision.violated] == ["a", "b"]


def test_of_those_that_allow_the_one_with_the_least_share_left_speaks():
    decision = decide_all(
        [verdict("a", quota=10, remaining=5), verdict("b", quota=1_000, remaining=100)]
    )
    assert decision.allowed
    assert (decision.limit, decision.remaining, decision.reset_us) == (1_000, 100, 900_000)


def test_a_shadow_never_denies_and_never_speaks():
    shadow = verdict("shadow", False, quota=1, remaining=0, retry_us=10**9, mode=Mode.SHADOW)
    alone = decide_all([shadow])
    assert alone.allowed
    assert (alone.limit, alone.retry_after_us, alone.violated) == (None, 0, ())
    assert alone.verdicts == (shadow,)
    beside = decide_all([shadow, verdict("a")])
    assert beside.allowed
    assert (beside.limit, beside.violated) == (10, ())
    denied = decide_all([shadow, verdict("a", False, retry_us=3)])
    assert (denied.limit, denied.retry_after_us) == (10, 3)
    assert [rule.name for rule in denied.violated] == ["a"]


def test_what_is_held_and_why_it_was_denied_is_kept():
    held = (Held("key", "member"),)
    assert decide_all([verdict("a")], held=held).held == held
    assert decide_all([verdict("a", mode=Mode.SHADOW)], held=held).held == held
    denied = decide_all([verdict("a", False)], unavailable=True, blocked=True)
    assert denied.unavailable
    assert denied.blocked
