from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.algorithms import EMPTY, decide
from apps.ratelimits.policy.rules import Algorithm, Rate
from apps.ratelimits.policy.spending import spender

RATES = st.builds(
    lambda algorithm, quota, window_us, burst, cost, charge, block_us: Rate(
        algorithm,
        quota,
        window_us,
        burst,
        min(cost, burst if algorithm is Algorithm.TOKEN_BUCKET else quota),
        charge,
        block_us,
    ),
    st.sampled_from([a for a in Algorithm if a is not Algorithm.CONCURRENCY]),
    st.integers(1, 12),
    st.integers(1, 1_000),
    st.integers(1, 12),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from([0, 0, 1, 300]),
)
STEPS = st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=80)


@given(rate=RATES, steps=STEPS, start=st.integers(0, 10**6))
def test_it_says_what_the_oracle_says(rate, steps, start):
    spend, state, now = spender(rate), EMPTY, start
    for later_us, charge in steps:
        now += later_us
        allowed, idle, counted = decide(rate, state, now)
        state = counted if charge or not allowed else idle
        assert spend(now, charge) is allowed
