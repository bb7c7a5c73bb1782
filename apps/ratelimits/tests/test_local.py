"""Limits in one process, while Redis is away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.errors import PolicyError
from apps.ratelimits.policy.rules import Algorithm, Rate, Rule
from apps.ratelimits.storage.local import LocalLimiter, share


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
