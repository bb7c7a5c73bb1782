"""What a denial costs: charged denials and blocks, searched for counterexamples."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.algorithms import EMPTY, decide, standing
from apps.ratelimits.policy.rules import Algorithm, Rate

from .drawn_rates import T0, gaps, most_in_a_window, rates


@given(rates(), gaps(), st.integers(0, 500))
def test_a_charged_denial_takes_what_is_left_and_frees_nothing(rate, waits, block_us):
    rate = replace(rate, charge_denied=True, block_us=block_us)
    state, now, admitted = EMPTY, T0, []
    for wait in waits:
        now += wait
        blocked = state.blocked_until_us > now
        ok, idle, state = decide(rate, state, now)
        before = standing(rate, 0, idle.a, idle.b, idle.c, now)
        after = standing(rate, 0, state.a, state.b, state.c, now)
        if ok:
            assert not blocked
            admitted.append((now, rate.cost))
        elif blocked:
            assert state == idle
        else:
            assert after.remaining == 0 or rate.algorithm is Algorithm.SLIDING_WINDOW
            assert after.retry_after_us >= before.retry_after_us
            assert state.blocked_until_us == (now + block_us if block_us else 0)
    bound = rate.quota + (rate.burst if rate.algorithm is Algorithm.TOKEN_BUCKET else rate.quota)
    if rate.algorithm is Algorithm.SLIDING_LOG:
        bound = rate.quota
    assert most_in_a_window(admitted, rate.window_us) <= bound


@pytest.mark.parametrize("algorithm", [Algorithm.TOKEN_BUCKET, Algorithm.SLIDING_LOG])
def test_who_keeps_asking_gets_nothing_where_denials_are_charged(algorithm):
    rate = Rate(algorithm, 2, 1_000_000, 2, charge_denied=True)
    _, _, state = decide(rate, EMPTY, T0)
    admitted = []
    for step in range(1, 100):
        ok, _, state = decide(rate, state, T0 + step * 100_000)
        if ok:
            admitted.append(step)
    assert admitted == [1]
    assert decide(rate, state, T0 + 12_000_000)[0]


def test_a_block_that_is_over_says_nothing_more_once_the_limit_blocks_no_longer():
    rate = Rate(Algorithm.FIXED_WINDOW, 1, 1_000_000, 1, block_us=1_000)
    _, _, state = decide(rate, EMPTY, T0)
    _, _, state = decide(rate, state, T0)
    assert state.blocked_until_us == T0 + 1_000
    ok, idle, state = decide(replace(rate, block_us=0), state, T0 + 2_000)
    assert not ok
    assert idle.blocked_until_us == state.blocked_until_us == 0


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_block_that_lasts_into_free_quota_is_all_that_is_waited_for(algorithm):
    rate = Rate(algorithm, 1, 100, burst=1, block_us=100)
    start = T0 - T0 % 100
    _, _, state = decide(rate, EMPTY, start)
    ok, _, state = decide(rate, state, start + 50)
    assert not ok
    ok, state, _ = decide(rate, state, start + 120)
    assert not ok
    told = standing(rate, state.blocked_until_us, state.a, state.b, state.c, start + 120)
    waited = start + 120 + told.retry_after_us
    assert waited >= start + 150
    if algorithm is not Algorithm.SLIDING_WINDOW:  # The last window weighs on for longer.
        assert waited == start + 150
    assert not decide(rate, state, waited - 1)[0]
    assert decide(rate, state, waited)[0]
