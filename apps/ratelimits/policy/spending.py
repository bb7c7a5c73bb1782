"""One identity's quota over many requests in order of time, for replays of a million of them.

The oracle makes a new state of each request, and a log as long as its quota each time. Here the
same arithmetic keeps its numbers from step to step: the verdicts are the oracle's (a test compares
them, rate by rate), in a tenth of the time. What is rare, denials that are charged, is the oracle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .algorithms import EMPTY, decide
from .rules import Algorithm, Rate

Spend = Callable[[int, bool], bool]
"""Of the time (us), and whether an allowed request is charged: whether it is allowed."""


def spender(rate: Rate) -> Spend:
    """Of any rate but those of ``concurrency``, whose slots end with requests."""
    if rate.charge_denied:
        return _of_oracle(rate)
    plain = {
        Algorithm.TOKEN_BUCKET: _of_token_bucket,
        Algorithm.FIXED_WINDOW: _of_fixed_window,
        Algorithm.SLIDING_WINDOW: _of_sliding_window,
        Algorithm.SLIDING_LOG: _of_log,
    }[rate.algorithm](rate)
    return _blocking(plain, rate.block_us) if rate.block_us else plain


def _of_oracle(rate: Rate) -> Spend:
    state = EMPTY

    def spend(now_us: int, charge: bool) -> bool:
        nonlocal state
        allowed, idle, counted = decide(rate, state, now_us)
        state = counted if charge or not allowed else idle
        return allowed

    return spend


def _blocking(plain: Spend, block_us: int) -> Spend:
    until_us = 0

    def spend(now_us: int, charge: bool) -> bool:
        nonlocal until_us
        if until_us > now_us:
            return False
        if plain(now_us, charge):
            return True
        until_us = now_us + block_us
        return False

    return spend


def _of_token_bucket(rate: Rate) -> Spend:
    unit = rate.denominator
    whole, part = rate.emission(rate.cost)
    tolerance, tolerance_part = rate.emission(rate.burst)
    arrival_us = remainder = 0

    def spend(now_us: int, charge: bool) -> bool:
        nonlocal arrival_us, remainder
        if arrival_us < now_us:
            arrival_us, remainder = now_us, 0
        carry, left = divmod(remainder + part, unit)
        after_us = arrival_us + whole + carry
        early_us = after_us - now_us - tolerance
        if early_us > 0 or (early_us == 0 and left > tolerance_part):
            return False
        if charge:
            arrival_us, remainder = after_us, left
        return True

    return spend


def _of_fixed_window(rate: Rate) -> Spend:
    window_us, cost, most = rate.window_us, rate.cost, rate.quota - rate.cost
    window = used = 0

    def spend(now_us: int, charge: bool) -> bool:
        nonlocal window, used
        now = now_us // window_us
        if now != window:
            window, used = now, 0
        if used > most:
            return False
        if charge:
            used += cost
        return True

    return spend


def _of_sliding_window(rate: Rate) -> Spend:
    window_us, cost, most = rate.window_us, rate.cost, rate.quota - rate.cost
    step_us = rate.resolution_us
    span = window_us // step_us
    window = used = before = 0

    def spend(now_us: int, charge: bool) -> bool:
        nonlocal window, used, before
        now, age_us = divmod(now_us, window_us)
        if now != window:
            window, used, before = now, 0, used if now == window + 1 else 0
        if before * (span - age_us // step_us) > (most - used) * span:
            return False
        if charge:
            used += cost
        return True

    return spend


def _of_log(rate: Rate) -> Spend:
    times: deque[int] = deque()
    window_us, most = rate.window_us, rate.quota // rate.cost

    def spend(now_us: int, charge: bool) -> bool:
        while times and times[0] <= now_us - window_us:
            times.popleft()
        if len(times) >= most:
            return False
        if charge:
            times.append(now_us)
        return True

    return spend
