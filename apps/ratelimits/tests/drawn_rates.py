"""Rates, requests and states that hypothesis draws for tests of the arithmetic."""

from __future__ import annotations

from hypothesis import strategies as st

from apps.ratelimits.policy.algorithms import EMPTY, Standing, State, decide, standing
from apps.ratelimits.policy.rules import Algorithm, Rate

T0 = 1_795_000_000_000_000
COUNTING = [a for a in Algorithm if a is not Algorithm.CONCURRENCY]


@st.composite
def rates(draw: st.DrawFn, algorithm: Algorithm | None = None, cost: int | None = None) -> Rate:
    algorithm = algorithm or draw(st.sampled_from(COUNTING))
    quota = draw(st.integers(1, 12))
    burst = draw(st.integers(1, 20)) if algorithm is Algorithm.TOKEN_BUCKET else quota
    window_us = draw(st.sampled_from([7, 10, 97, 1_000, 1_000_000]))
    capacity = burst if algorithm is Algorithm.TOKEN_BUCKET else quota
    return Rate(algorithm, quota, window_us, burst, cost or draw(st.integers(1, min(3, capacity))))


def gaps(most: int = 1_200) -> st.SearchStrategy[list[int]]:
    return st.lists(st.one_of(st.just(0), st.integers(0, 20), st.integers(0, most)), max_size=60)


def run(rate: Rate, waits: list[int], start: int = T0) -> tuple[State, int, list[tuple[int, int]]]:
    """The states and the (time, cost) of what was admitted."""
    admitted: list[tuple[int, int]] = []
    state, now = EMPTY, start
    for number, wait in enumerate(waits):
        now += wait
        ok, idle, charged = decide(rate, state, now, member=str(number))
        state = charged if ok else idle
        if ok:
            admitted.append((now, rate.cost))
    return state, now, admitted


def most_in_a_window(admitted: list[tuple[int, int]], window_us: int) -> int:
    return max(
        (sum(c for t, c in admitted if last - window_us < t <= last) for last, _ in admitted),
        default=0,
    )


@st.composite
def checked_states(draw: st.DrawFn, *algorithms: Algorithm) -> tuple[Rate, State, int, Standing]:
    """A rate, a state that it can be in, the time, and what it says there of a request."""
    rate = draw(rates(algorithm=draw(st.sampled_from(algorithms or COUNTING))))
    state, now, _ = run(rate, draw(gaps()))
    ok, idle, charged = decide(rate, state, now)
    state = charged if ok and draw(st.booleans()) else idle
    return rate, state, now, standing(rate, ok, state.a, state.b, state.c, now)


def sum_admitted(rate: Rate, state: State, times: list[int], cost: int | None = None) -> int:
    units = 0
    for now in times:
        ok, idle, charged = decide(rate, state, now, cost)
        state = charged if ok else idle
        units += (cost or rate.cost) * ok
    return units
