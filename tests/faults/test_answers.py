"""The judge of the answers sees each kind of mistake, and none where there is none."""

from __future__ import annotations

import math

import pytest

from .answers import Judge, Times, bucket_errors, exact_after_s, percentile
from .load import Answer
from .site import ACROSS_QUOTA, BUCKET_QUOTA, QUOTA, SHARE

TIMES = Times(100.0, 100.1, 102.0, 102.1)
BEFORE_S, IN_FAULT_S, RECOVERING_S, AFTER_S = 98.0, 100.6, 103.0, 104.5


def asked(kind, since_s, statuses, remaining=None, *, every_s=0.05, explained=True):
    """One address' answers, by two processes in turns, each within 5 ms."""
    if remaining is None:
        remaining = [max(0, QUOTA - number) for number in range(1, len(statuses) + 1)]
    return [
        Answer("wsgi", kind, "a", n, n % 2, since_s + n * every_s, 0.005, status, left, explained)
        for n, (status, left) in enumerate(zip(statuses, remaining, strict=True), 1)
    ]


def reasons(answers, *, disables=True, keeps=True):
    return {wrong.why for wrong in Judge(TIMES, disables, keeps).all(answers)}


EXACT = [200] * QUOTA + [429] * 2


@pytest.mark.parametrize("since_s", [BEFORE_S, AFTER_S])
@pytest.mark.parametrize("kind", ["local", "allow", "deny"])
def test_without_a_fault_the_quota_is_admitted_and_counts_down(kind, since_s):
    assert reasons(asked(kind, since_s, EXACT)) == set()
    assert reasons(asked(kind, since_s, [200] * (QUOTA + 1))) == {"not exact"}
    assert "denied within the quota" in reasons(asked(kind, since_s, [200, 200, 429]))
    twice = [QUOTA - 1, QUOTA - 1]
    assert reasons(asked(kind, since_s, [200, 200], twice)) == {"not exact"}


def test_in_the_fault_each_limit_keeps_to_its_policy():
    share = [200] * (2 * SHARE) + [429] * 2
    assert reasons(asked("local", IN_FAULT_S, share)) == set()
    assert reasons(asked("allow", IN_FAULT_S, [200] * 10)) == set()
    assert reasons(asked("deny", IN_FAULT_S, [503] * 10)) == set()

    unshared = f"not the process's share of {SHARE}"
    assert reasons(asked("local", IN_FAULT_S, [200] * (2 * SHARE + 1))) == {unshared}
    assert reasons(asked("local", IN_FAULT_S, [200] * (2 * SHARE - 1) + [429])) == {unshared}
    assert reasons(asked("allow", IN_FAULT_S, [200] * 9 + [429])) == set()  # From memory.
    assert reasons(asked("allow", IN_FAULT_S, [200, 429])) == {"denied within the quota"}
    assert reasons(asked("deny", IN_FAULT_S, [503, 200])) == {"not 503, though Redis is away"}


@pytest.mark.parametrize("since_s", [BEFORE_S, IN_FAULT_S, RECOVERING_S, AFTER_S])
def test_never_another_status_nor_503_of_a_limit_that_does_not_deny(since_s):
    for kind in ("local", "allow", "bucket"):
        assert reasons(asked(kind, since_s, [503])) == {"503 that no policy asked for"}
        assert "not a status of the limiter's" in reasons(asked(kind, since_s, [500]))
        assert "no answer" in reasons(asked(kind, since_s, [0]))
    unexplained = asked("local", since_s, EXACT, explained=False)
    assert "denied without Retry-After or problem type" in reasons(unexplained[QUOTA:])


def test_503_is_over_two_seconds_after_the_fault():
    assert reasons(asked("deny", RECOVERING_S, [503, 200])) == set()
    assert "503 that no policy asked for" in reasons(asked("deny", AFTER_S, [503]))


def test_a_limit_that_denies_admits_its_quota_across_the_fault():
    parts = (98.0, 200, ACROSS_QUOTA - 5), (IN_FAULT_S, 503, 10), (RECOVERING_S, 200, 6)
    answers = [a for since_s, status, n in parts for a in asked("across", since_s, [status] * n)]
    answers = [
        answer._replace(number=number, remaining=max(0, ACROSS_QUOTA - number))
        for number, answer in enumerate(answers, 1)
    ]
    over = f"over the quota of {ACROSS_QUOTA} across the fault"
    assert reasons(answers) == {over}
    assert reasons(answers[:-1]) == set()
    assert reasons(answers, keeps=False) == set()


def test_exact_again_is_when_every_new_address_is():
    def at(since_s, statuses, who):
        return [a._replace(who=who) for a in asked("local", since_s, statuses)]

    wrong = at(102.15, [200] * 10, "b")
    right = at(102.6, EXACT, "c") + at(103.2, EXACT, "d")
    assert exact_after_s(wrong + right, TIMES) == pytest.approx(102.65 - 102.1)
    assert exact_after_s(right + at(103.5, [429], "e"), TIMES) == math.inf
    assert exact_after_s([], TIMES) == math.inf


def test_a_bucket_holds_what_it_holds():
    full = asked("bucket", BEFORE_S, [200] * BUCKET_QUOTA + [429], every_s=0.001)
    assert bucket_errors(full, TIMES) == []
    over = asked("bucket", BEFORE_S, [200] * (BUCKET_QUOTA + 1), every_s=0.001)
    assert [wrong.why for wrong in bucket_errors(over, TIMES)] == ["more than the bucket holds"]
    early = asked("bucket", BEFORE_S, [200] * (BUCKET_QUOTA - 1) + [429], every_s=0.001)
    assert [w.why for w in bucket_errors(early, TIMES)] == ["denied though the bucket has some"]
    paced = asked("bucket", 90.0, [200] * 80, every_s=0.1)
    assert bucket_errors(paced, TIMES) == []


def test_a_percentile_is_one_of_the_values():
    assert percentile([3, 1, 2], 0.99) == 3
    assert percentile(range(1, 101), 0.99) == 99
    assert math.isnan(percentile([], 0.99))
