"""The judge of the scenarios finds what is wrong, and excuses only what is explained."""

from __future__ import annotations

import math

import pytest

from apps.ratelimits.policy.rules import Algorithm, Rate, Rule

from .judging import Happened, judge
from .load import Answer, Person
from .report import as_markdown, as_text

QUOTA = 3
RATE = Rate(Algorithm.FIXED_WINDOW, QUOTA, 1_000_000, burst=QUOTA)
ADA = Person("ada", 7, Rule(1, "limit-1", RATE))
GRACE = Person("grace", 9, Rule(2, "limit-2", RATE))
LOST = Happened(at_s=10.0, again_s=11.0, lost_slots=frozenset({7}), lag_s=0.5)
QUIET = Happened(at_s=10.0, again_s=10.0)


def answer(at_s, *, allowed=True, whom=(ADA,), denied=None, by_policy=None, error=""):
    no = (False,) * len(whom)
    by_policy, denied = by_policy or no, denied or no
    charged = tuple(allowed and not each for each in by_policy)
    return Answer(whom, at_s - 0.001, at_s, allowed, charged, denied, by_policy, error)


def no(at_s):
    return answer(at_s, allowed=False, denied=(True,))


def policy(at_s):
    return answer(at_s, by_policy=(True,))


def said(happened, *answers, used_up=()):
    row = judge("it", happened, list(answers), list(used_up))
    return row, " ".join(row.said)


def test_a_quota_that_holds_is_right():
    row, text = said(QUIET, answer(1), answer(2), answer(12), used_up=[no(20)])
    assert (row.requests, row.wrong, row.errors, row.over_admitted, text) == (4, 0, 0, 0, "")


def test_more_than_the_quota_is_wrong_unless_the_lag_explains_it():
    row, text = said(QUIET, *map(answer, (1, 2, 3, 4)), used_up=[no(20)])
    assert (row.wrong, row.over_admitted) == (1, 1)
    assert "1 over the quota, 0 were unreplicated" in text
    row, text = said(LOST, *map(answer, (1, 2, 9.7, 13)), used_up=[no(20)])
    assert (row.wrong, row.over_admitted, row.bound) == (0, 1, 1)
    row, text = said(LOST, *map(answer, (1, 2, 9.2, 13)), used_up=[no(20)])
    assert row.wrong == 1, "acknowledged before the lag"


def test_a_denial_before_the_quota_is_used_up_is_wrong_unless_replies_were_lost():
    row, text = said(QUIET, answer(1), answer(2), no(3), used_up=[no(20)])
    assert row.wrong == 1
    assert "denied after 2 of 3" in text
    row, _ = said(QUIET, answer(1), answer(2), policy(3), used_up=[no(20)])
    assert (row.wrong, row.by_policy) == (0, 1)


def test_who_is_never_denied_is_noticed():
    _, text = said(QUIET, answer(1), used_up=[answer(20)])
    assert "never denied" in text


def test_what_a_limit_denied_must_not_be_allowed():
    both = answer(1, whom=(ADA, GRACE), denied=(False, True))
    _, text = said(QUIET, both)
    assert "allowed though a limit denied" in text


def test_errors_are_counted_apart():
    row, text = said(QUIET, answer(1, allowed=False, error="ValueError: x"), used_up=[no(2)])
    assert row.errors == 1
    assert "ValueError: x" in text


def test_when_the_lost_slots_were_exact_again():
    elsewhere = [answer(t / 100, whom=(GRACE,)) for t in range(1_000, 1_300)]
    back = [answer(11.2 + n / 1_000) for n in range(60)]
    row, _ = said(LOST, *elsewhere, policy(10.5), answer(10.6), policy(11.1), *back)
    assert row.exact_after_s == pytest.approx(0.2)
    assert row.failover_s == pytest.approx(1.0)
    assert (row.by_policy, row.by_policy_elsewhere) == (2, 0)
    row, _ = said(LOST, answer(11.2), policy(11.3))
    assert row.exact_after_s == math.inf
    assert said(QUIET, answer(1))[0].exact_after_s is None


def test_the_table():
    row, _ = said(LOST, answer(1), used_up=[no(20)])
    assert "it" in as_text([row])
    assert "| it | 2 | 1 | 0 | 1.00 | 0 | 0 | 0 | 0 | inf |" in as_markdown([row])
