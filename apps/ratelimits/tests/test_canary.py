"""Who is in a canary: a stated share, always the same ones, and what then happens to whom."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.canary import PLACES, is_in, place
from apps.ratelimits.policy.errors import PolicyError
from apps.ratelimits.policy.facts import RequestFacts
from apps.ratelimits.policy.identity import Digests
from apps.ratelimits.policy.matching import compile_rule, compile_ruleset
from apps.ratelimits.policy.rules import (
    Algorithm,
    CountedBy,
    Mode,
    Override,
    OverrideAction,
    Rate,
    Rule,
    Ruleset,
)

RATE = Rate(Algorithm.FIXED_WINDOW, 3, 60_000_000, burst=3)
MANY = 10_000
DIGESTS = Digests(b"of the tests")
WHOM = [DIGESTS.of(("address", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")) for n in range(MANY)]


def canary(permille: int, rule_id: int = 1, **changes) -> Rule:
    return Rule(rule_id, f"limit-{rule_id}", RATE, mode=Mode.CANARY,
                canary_permille=permille, **changes)  # fmt: skip


def chosen(permille: int, rule_id: int = 1) -> set[str]:
    rule = canary(permille, rule_id)
    return {who for who in WHOM if is_in(rule, who)}


@pytest.mark.parametrize("permille", [1, 10, 100, 500, 990, 999])
def test_of_ten_thousand_the_stated_share_is_in(permille):
    """Within 4 standard deviations of a fair draw, for each of 20 limits: a fair one is outside
    once in 16,000. The identities and the hash are fixed, so the test says the same every time."""
    share = permille / 1000
    allowed = 4 * (MANY * share * (1 - share)) ** 0.5
    for rule_id in range(1, 21):
        assert abs(len(chosen(permille, rule_id)) - MANY * share) <= allowed, rule_id


def test_places_are_spread_evenly():
    """Chi-squared over 100 equal parts: below 149 but once in 1,000 for a fair draw."""
    for rule_id in (1, 2, 77, 2**30 - 1):
        counts = [0] * 100
        for who in WHOM:
            counts[place(rule_id, who) * 100 // PLACES] += 1
        assert sum((count - 100) ** 2 / 100 for count in counts) < 149


def test_limits_do_not_choose_the_same_clients():
    """Each pair has 1 % in common where each has 10 %: as chance would have it (4 deviations)."""
    found = [chosen(100, rule_id) for rule_id in range(1, 11)]
    for at, one in enumerate(found):
        for other in found[at + 1 :]:
            assert abs(len(one & other) - 100) <= 40


@given(
    st.integers(1, 2**30 - 1),
    st.text("abcdefghijklmnopqrstuvwxyzABCDEF0123456789-_", min_size=20, max_size=20),
    st.integers(1, 998),
    st.integers(1, 998),
)
def test_a_larger_percentage_only_adds(rule_id, who, some, more):
    less, more = sorted((some, more + 1))
    if is_in(canary(less, rule_id), who):
        assert is_in(canary(more, rule_id), who)


def test_raised_step_by_step_each_canary_holds_the_one_before():
    steps = [chosen(permille) for permille in (10, 50, 100, 250, 500, 999)]
    for less, more in pairwise(steps):
        assert less < more


def test_another_process_chooses_the_same():
    """With another seed of Python's own hashes."""
    code = (
        "from apps.ratelimits.tests.test_canary import *;"
        "print(sum(1 for w in WHOM if is_in(canary(100, 5), w)), min(sorted(chosen(100, 5))))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "DJANGO_SETTINGS_MODULE": "none"},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert told == {f"{len(chosen(100, 5))} {min(chosen(100, 5))}\n"}


def test_the_choice_stays_what_it_is():
    """Another hash would let other clients in at an upgrade: these were written down once."""
    assert place(1, "AAAAAAAAAAAAAAAAAAAA") == 14_015_427_906_591_724_201
    assert place(2, "AAAAAAAAAAAAAAAAAAAA") == 13_803_898_432_132_083_993


@pytest.mark.parametrize("permille", [0, 1000, -1])
def test_a_canary_for_nobody_or_everyone_is_another_mode(permille):
    with pytest.raises(PolicyError, match=r"use 0\.1 to 99\.9"):
        canary(permille)


def test_everyone_together_has_no_part_to_try():
    with pytest.raises(PolicyError, match="everyone together is one count"):
        canary(100, counted_by=(CountedBy.EVERYONE,))


def test_both_forms_are_made_once_and_differ_in_their_mode_alone():
    rule = canary(100, overrides=(Override("network", "10.0.0.0/8", OverrideAction.QUOTA, 2),))
    compiled = compile_rule(rule)
    assert compiled.rule is rule
    for form, mode in (
        (compiled.canary.enforced, Mode.ENFORCE),
        (compiled.canary.shadow, Mode.SHADOW),
    ):
        assert form.rule == replace(rule, mode=mode)
        assert form.canary is None
        (override,) = form.overrides
        assert (override.rule.mode, override.rule.rate.quota) == (mode, 2)
        assert form.conditions is compiled.conditions
    who = next(iter(chosen(100)))
    assert compiled.canary.of(who) is compiled.canary.of(who) is compiled.canary.enforced


def test_a_limit_that_is_no_canary_has_no_other_form():
    for mode in (Mode.SHADOW, Mode.ENFORCE):
        assert compile_rule(replace(canary(100), mode=mode)).canary is None


def test_a_canary_is_found_like_any_other():
    index = compile_ruleset(Ruleset(1, (canary(100, methods=frozenset({"GET"})),)))
    assert index.candidates(RequestFacts("GET", "/", "10.0.0.1"), 0)
    assert not index.candidates(RequestFacts("POST", "/", "10.0.0.1"), 0)
