"""What every algorithm promises, searched for counterexamples."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from apps.ratelimits.policy.algorithms import EMPTY, decide, standing
from apps.ratelimits.policy.errors import PolicyError
from apps.ratelimits.policy.rules import Algorithm, Rate

from .drawn_rates import (
    COUNTING,
    T0,
    checked_states,
    gaps,
    most_in_a_window,
    rates,
    run,
    sum_admitted,
)


@given(rates(), gaps())
def test_no_window_admits_more_than_is_promised(rate, waits):
    _, _, admitted = run(rate, waits)
    bound = {
        Algorithm.TOKEN_BUCKET: rate.quota + rate.burst,
        Algorithm.FIXED_WINDOW: 2 * rate.quota,
        Algorithm.SLIDING_WINDOW: 2 * rate.quota,
        Algorithm.SLIDING_LOG: rate.quota,
    }[rate.algorithm]
    assert most_in_a_window(admitted, rate.window_us) <= bound
    if rate.algorithm in (Algorithm.FIXED_WINDOW, Algorithm.SLIDING_WINDOW):
        windows = {t // rate.window_us for t, _ in admitted}
        for window in windows:
            assert sum(c for t, c in admitted if t // rate.window_us == window) <= rate.quota


@given(rates(cost=1), gaps())
def test_an_idle_identity_has_its_whole_quota(rate, waits):
    state, now, _ = run(rate, waits)
    capacity = rate.burst if rate.algorithm is Algorithm.TOKEN_BUCKET else rate.quota
    idle_us = 2 * rate.window_us * (1 + rate.burst // rate.quota)
    for number in range(capacity):
        ok, _, state = decide(rate, state, now + idle_us)
        assert ok, number
    assert not decide(rate, state, now + idle_us)[0]


@given(rates(), st.integers(2, 40))
def test_who_keeps_the_pace_is_never_denied(rate, requests):
    if rate.algorithm is Algorithm.TOKEN_BUCKET:
        pace_us = -(-rate.window_us * rate.cost // rate.quota)
    else:
        pace_us = -(-rate.window_us // (rate.quota // rate.cost))
    if rate.algorithm is Algorithm.SLIDING_WINDOW:
        assume(rate.quota % rate.cost == 0 and rate.quota >= 2 * rate.cost)
        pace_us *= 2  # Approximate: the last window's requests count as if spread evenly.
    _, _, admitted = run(rate, [pace_us] * requests)
    assert len(admitted) == requests


@given(rates(), gaps())
def test_the_time_to_wait_is_exact(rate, waits):
    state, now, _ = run(rate, waits)
    ok, idle, _ = decide(rate, state, now)
    assume(not ok)
    wait_us = standing(rate, False, idle.a, idle.b, idle.c, now).retry_after_us
    assert wait_us > 0
    assert not decide(rate, idle, now + wait_us - 1)[0]
    assert decide(rate, idle, now + wait_us)[0]


@given(rates(cost=1), gaps())
def test_remaining_is_what_can_be_used_at_once(rate, waits):
    state, now, _ = run(rate, waits)
    ok, idle, charged = decide(rate, state, now)
    state = charged if ok else idle
    remaining = standing(rate, ok, state.a, state.b, state.c, now).remaining
    for _ in range(remaining):
        ok, _, state = decide(rate, state, now)
        assert ok
    assert not decide(rate, state, now)[0]


@given(rates(cost=1), gaps(), st.data())
def test_within_the_effective_window_no_more_than_remaining_is_used(rate, waits, data):
    state, now, _ = run(rate, waits)
    ok, idle, charged = decide(rate, state, now)
    state = charged if ok else idle
    stood = standing(rate, ok, state.a, state.b, state.c, now)
    assume(stood.steady_us > 0)
    used = 0
    times = data.draw(st.lists(st.integers(0, stood.steady_us - 1), max_size=10).map(sorted))
    for time_us in [*times, *[stood.steady_us - 1] * (rate.quota + 1)]:
        ok, idle, charged = decide(rate, state, now + time_us)
        state = charged if ok else idle
        used += ok
    assert used <= stood.remaining


@given(rates(), st.lists(st.integers(-500, 500), max_size=60))
def test_a_clock_that_steps_back_frees_nothing(rate, steps):
    """As the scripts do it: a bucket's time is the latest that it has seen."""
    clock, seen, waits = T0, T0, []
    for step in steps:
        clock += step
        waits.append(max(clock, seen) - seen)
        seen = max(clock, seen)
    _, _, admitted = run(rate, waits)
    bound = rate.burst + rate.quota if rate.algorithm is Algorithm.TOKEN_BUCKET else 2 * rate.quota
    assert most_in_a_window(admitted, rate.window_us) <= bound


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cost": 11}, "every request would be denied"),
        ({"quota": 0}, "quota is 0"),
        ({"window_us": 0}, "window_us is 0"),
        ({"quota": 99_999_989, "burst": 99_999_989}, "finer than the arithmetic can hold"),
        ({"quota": 1, "burst": 10**11, "window_us": 86_400_000_000}, "70 years"),
        ({"algorithm": Algorithm.SLIDING_LOG, "quota": 10_001}, "exact log"),
        (
            {"algorithm": Algorithm.SLIDING_WINDOW, "quota": 10**11, "window_us": 86_400_000_001},
            "more than a sliding window can weigh",
        ),
        ({"algorithm": Algorithm.CONCURRENCY, "quota": 5, "cost": 2}, "cost of 1"),
    ],
)
def test_a_rate_that_cannot_be_held_is_refused(changes, said):
    values = {
        "algorithm": Algorithm.TOKEN_BUCKET,
        "quota": 10,
        "window_us": 1_000_000,
        "burst": 10,
        "cost": 1,
    }
    with pytest.raises(PolicyError, match=said):
        Rate(**{**values, **changes})


@pytest.mark.parametrize(
    ("quota", "window_s"), [(700_000, 1), (10**8, 86_400), (1, 366 * 86_400), (10**9, 60)]
)
def test_large_and_slow_rates_are_held(quota, window_s):
    assert Rate(Algorithm.TOKEN_BUCKET, quota, window_s * 1_000_000, quota).quota == quota


@given(checked_states(), st.data())
def test_remaining_and_effective_window_hold_for_every_cost(checked, data):
    rate, state, now, stood = checked
    assert sum_admitted(rate, state, [now] * (stood.remaining + 1), cost=1) == stood.remaining
    assume(stood.steady_us > 0)
    last = stood.steady_us - 1
    times = data.draw(st.lists(st.integers(0, last), max_size=10).map(sorted))
    times += [last] * (rate.quota + rate.burst)
    assert sum_admitted(rate, state, [now + t for t in times]) <= stood.remaining


@given(checked_states())
def test_when_it_is_reset_the_whole_capacity_is_free(checked):
    rate, state, now, stood = checked
    capacity = rate.burst if rate.algorithm is Algorithm.TOKEN_BUCKET else rate.quota
    assert decide(rate, state, now + stood.reset_us, capacity)[0]


@given(
    checked_states(Algorithm.TOKEN_BUCKET, Algorithm.FIXED_WINDOW, Algorithm.SLIDING_WINDOW),
)
def test_before_it_is_reset_the_whole_capacity_is_not_free(checked):
    rate, state, now, stood = checked
    capacity = rate.burst if rate.algorithm is Algorithm.TOKEN_BUCKET else rate.quota
    assume(stood.reset_us > 0)
    assert not decide(rate, state, now + stood.reset_us - 1, capacity)[0]


@given(rates(), gaps(), st.integers(1, 12))
def test_a_request_may_cost_something_else_than_the_rate_says(rate, waits, cost):
    capacity = rate.burst if rate.algorithm is Algorithm.TOKEN_BUCKET else rate.quota
    assume(cost <= capacity)
    state, now, _ = run(rate, waits)
    ok, idle, _ = decide(rate, state, now, cost)
    stood = standing(rate, ok, idle.a, idle.b, idle.c, now, cost)
    assert ok == (stood.remaining >= cost)
    if not ok:
        assert not decide(rate, idle, now + stood.retry_after_us - 1, cost)[0]
        assert decide(rate, idle, now + stood.retry_after_us, cost)[0]


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_cost_over_the_capacity_is_denied(algorithm):
    rate = Rate(algorithm, 3, 1_000, 3)
    assert decide(rate, EMPTY, T0, member="a")[0]
    if algorithm is not Algorithm.CONCURRENCY:
        assert not decide(rate, EMPTY, T0, cost=4)[0]


@given(rates(), st.lists(st.integers(-2_000_000, 2_000_000), max_size=40))
def test_a_clock_that_steps_back_never_raises(rate, steps):
    """Without the clamp of the storage too; what is said is then still sane."""
    state, clock = EMPTY, T0
    for step in steps:
        clock += step
        ok, idle, charged = decide(rate, state, clock)
        state = charged if ok else idle
        stood = standing(rate, ok, state.a, state.b, state.c, clock)
        assert stood.remaining >= 0
        assert stood.retry_after_us >= 0
        assert stood.steady_us >= 0


def test_a_clock_that_stands_still_admits_the_burst_and_no_more():
    for algorithm in COUNTING:
        rate = Rate(algorithm, 5, 1_000, 5)
        assert sum_admitted(rate, EMPTY, [T0] * 20) == 5
