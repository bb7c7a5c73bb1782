"""Limits in one process, while Redis is away."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.ratelimits.policy.algorithms import State
from apps.ratelimits.policy.errors import PolicyError
from apps.ratelimits.policy.rules import MAX_WINDOW_US, Algorithm, Counts, Rate, Rule
from apps.ratelimits.storage.local import LocalLimiter, reshared, share

from .connecting import forks, in_a_fork


@given(
    st.sampled_from(list(Algorithm)),
    st.integers(1, 10**10),
    st.sampled_from([1, 60, 3_600, 86_400, 366 * 86_400]),
    st.integers(1, 10_000),
)
def test_every_accepted_rate_can_be_shared_and_the_shares_admit_no_more(
    algorithm, quota, window_s, processes
):
    try:
        rate = Rate(algorithm, quota, window_s * 1_000_000, quota)
    except PolicyError:
        return
    part = share(rate, processes)
    assert part.burst * processes <= max(rate.burst, processes)
    pace = part.quota * rate.window_us * processes
    assert pace <= max(rate.quota, processes) * part.window_us


def test_the_rate_that_once_could_not_be_shared():
    rate = Rate(Algorithm.TOKEN_BUCKET, 10**9, 60_000_000, 10**9)
    for processes in (3, 6, 7):
        assert share(rate, processes).window_us == processes * 60_000_000


def test_a_clock_that_steps_back_begins_no_window_anew():
    times = iter([10_000_000, 5_000_000, 10_000_001])
    limiter = LocalLimiter(1, clock_us=lambda: next(times))
    rule = Rule(1, "one", Rate(Algorithm.FIXED_WINDOW, 1, 1_000_000, 1))
    allowed = [limiter.decide([(rule, "a")], "m")[0][0].allowed for _ in range(3)]
    assert allowed == [True, False, False]


@forks
def test_a_forked_child_decides_whatever_its_parents_threads_do():
    """And has its own share."""
    limiter = LocalLimiter(2)
    rule = Rule(1, "one", Rate(Algorithm.FIXED_WINDOW, 2, MAX_WINDOW_US, 2))

    def allowed() -> bool:
        return limiter.decide([(rule, "a")], "m")[0][0].allowed

    assert [allowed(), allowed()] == [True, False]
    # As when another thread is just at it.
    with limiter._lock:
        child = in_a_fork(allowed)
    child.join(5)
    try:
        assert child.exitcode == 0
    finally:
        child.kill()


def fallback(rate, processes, times):
    limiter = LocalLimiter(processes, clock_us=lambda: times[0])
    rule = Rule(1, "one", rate)

    def allowed() -> bool:
        return limiter.decide([(rule, "a")], "m")[0][0].allowed

    return limiter, allowed


@settings(deadline=None)
@given(
    st.sampled_from([Algorithm.FIXED_WINDOW, Algorithm.TOKEN_BUCKET, Algorithm.SLIDING_LOG]),
    st.integers(1, 60),
    st.integers(1, 3),
    st.integers(1, 8),
    st.lists(st.integers(0, 12), min_size=1, max_size=6),
)
def test_processes_together_admit_a_quota_or_one_request_each(
    algorithm, quota, cost, processes, too_many
):
    """However the number that they know of changes: never fewer than there are, at times more,
    as after a restart."""
    if cost > quota:
        return
    rate = Rate(algorithm, quota, 3_600_000_000, quota, cost)
    times = [3_600_000_000]
    admitted = 0
    for _ in range(processes):
        limiter, allowed = fallback(rate, processes, times)
        for more in (*too_many, 0):
            limiter.processes = processes + more
            while allowed():
                admitted += cost
    assert admitted <= max(quota, processes * cost)


@given(
    st.integers(1, 1_000),
    st.integers(1, 1_000),
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(0, 3_600_000_000),
)
def test_another_share_gives_nothing_back_and_takes_nothing_twice(
    quota, used, before, after, passed_us
):
    rate = Rate(Algorithm.TOKEN_BUCKET, quota, 3_600_000_000, quota)
    old, new = share(rate, before), share(rate, after)
    now_us = 10**15
    whole, part = old.emission(used)
    state = State(now_us + whole, part)
    then_us = now_us + min(passed_us, whole)
    moved = reshared(state, old, new, then_us)
    taken, taken_after = (
        debt(rate, state, then_us) for rate, state in ((old, state), (new, moved))
    )
    per_unit, parts = new.fraction
    assert taken <= taken_after <= taken + Fraction(1, per_unit)
    assert moved.b < parts


def debt(rate, state, now_us) -> Fraction:
    """Units that are taken."""
    per_unit, parts = rate.fraction
    return Fraction((state.a - now_us) * parts + state.b, per_unit)


def test_more_processes_make_no_room_in_a_bucket_that_is_used_up():
    times = [10**15]
    limiter, allowed = fallback(Rate(Algorithm.TOKEN_BUCKET, 8, 3_600_000_000, 8), 2, times)
    assert [allowed() for _ in range(5)] == [True] * 4 + [False]
    limiter.processes = 4
    assert not allowed()
    times[0] += 3_600_000_000  # At two an hour each, two of the four that are taken are free.
    assert not allowed()
    times[0] += 1_800_000_000
    assert allowed()


def test_fewer_processes_make_the_room_that_is_then_each_ones_own():
    times = [10**15]
    limiter, allowed = fallback(Rate(Algorithm.TOKEN_BUCKET, 8, 3_600_000_000, 8), 4, times)
    assert [allowed() for _ in range(3)] == [True, True, False]
    limiter.processes = 2
    assert [allowed() for _ in range(3)] == [True, True, False]


def test_a_charge_made_under_another_share_is_not_given_back():
    times = [10**15]
    rate = Rate(Algorithm.TOKEN_BUCKET, 24, 3_600_000_000, 24)
    counted = Rule(1, "one", rate, counts=Counts.STATUS, statuses=((401, 401),))
    limiter = LocalLimiter(4, clock_us=lambda: times[0])

    def charge():
        times[0] += 1
        (verdict,), charges = limiter.decide([(counted, "a")], "m")
        return verdict.standing.remaining, charges[0]

    _, before = charge()
    limiter.processes = 2
    charge()
    limiter.processes = 4
    left, last = charge()
    limiter.refund(before)
    assert charge()[0] == left - 1
    limiter.refund(last)
    assert charge()[0] == left - 1
