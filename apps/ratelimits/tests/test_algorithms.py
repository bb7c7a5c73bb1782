"""What each algorithm promises, searched for counterexamples."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from apps.ratelimits.policy.algorithms import EMPTY, decide, refund, standing
from apps.ratelimits.policy.errors import PolicyError
from apps.ratelimits.policy.rules import Algorithm, Rate

T0 = 1_795_000_000_000_000
COUNTING = [a for a in Algorithm if a is not Algorithm.CONCURRENCY]


@st.composite
def rates(draw, algorithm=None, cost=None):
    algorithm = algorithm or draw(st.sampled_from(COUNTING))
    quota = draw(st.integers(1, 12))
    burst = draw(st.integers(1, 20)) if algorithm is Algorithm.TOKEN_BUCKET else quota
    window_us = draw(st.sampled_from([7, 10, 97, 1_000, 1_000_000]))
    capacity = burst if algorithm is Algorithm.TOKEN_BUCKET else quota
    return Rate(algorithm, quota, window_us, burst, cost or draw(st.integers(1, min(3, capacity))))


def gaps(most=1_200):
    return st.lists(st.one_of(st.just(0), st.integers(0, 20), st.integers(0, most)), max_size=60)


def run(rate, waits, start=T0):
    """The states and the (time, cost) of what was admitted."""
    state, now, admitted = EMPTY, start, []
    for number, wait in enumerate(waits):
        now += wait
        ok, idle, charged = decide(rate, state, now, member=str(number))
        state = charged if ok else idle
        if ok:
            admitted.append((now, rate.cost))
    return state, now, admitted


def most_in_a_window(admitted, window_us):
    return max(
        (sum(c for t, c in admitted if last - window_us < t <= last) for last, _ in admitted),
        default=0,
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


@given(rates(), gaps())
def test_a_refund_gives_back_what_was_taken_and_no_more(rate, waits):
    state, now, _ = run(rate, waits)
    ok, idle, charged = decide(rate, state, now)
    assume(ok)
    returned = refund(rate, charged, charged, rate.cost)
    again, _, charged_again = decide(rate, returned, now)
    assert again
    assert (charged_again.a, charged_again.b, charged_again.c) == (
        charged.a,
        charged.b,
        charged.c,
    )
    assert not returned.entries or returned.entries == idle.entries


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


@given(st.integers(1, 5), gaps(3_000))
def test_slots_are_never_more_than_the_quota(quota, waits):
    rate = Rate(Algorithm.CONCURRENCY, quota, 1_000, quota)
    state, now = EMPTY, T0
    for number, wait in enumerate(waits):
        now += wait
        ok, idle, charged = decide(rate, state, now, member=str(number))
        assert ok == (len(idle.entries) < quota)
        state = charged if ok else idle
        assert len(state.entries) <= quota
        if number % 3 == 0:
            state = refund(rate, state, state, 1, str(number))


def test_the_wait_for_a_slot_is_exact():
    rate = Rate(Algorithm.CONCURRENCY, 1, 1_000, 1)
    _, _, state = decide(rate, EMPTY, T0, member="a")
    ok, idle, _ = decide(rate, state, T0 + 10, member="b")
    wait_us = standing(rate, ok, idle.a, idle.b, idle.c, T0 + 10).retry_after_us
    assert wait_us == 990
    assert not decide(rate, idle, T0 + 10 + wait_us - 1, member="b")[0]
    assert decide(rate, idle, T0 + 10 + wait_us, member="b")[0]


def test_700_000_per_second_is_exactly_that():
    """Two asked per microsecond; 0.7 are due. A burst of 1 would be lost to the clock's ticks."""
    rate = Rate(Algorithm.TOKEN_BUCKET, 700_000, 1_000_000, burst=2)
    state, admitted = EMPTY, 0
    for now in range(T0 + 3, T0 + 3 + 100_000):
        for _ in range(2):
            ok, idle, charged = decide(rate, state, now)
            state = charged if ok else idle
            admitted += ok
    assert 70_000 - 1 <= admitted <= 70_000 + rate.burst


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
