"""The reference arithmetic of every algorithm: oracle of the scripts, and local fallback.

A state is three integers and, for the exact ones, a log. What they mean:

==============  ==============================  =====================  ====================
algorithm       a                               b                      c
==============  ==============================  =====================  ====================
token_bucket    theoretical arrival time, us    remainder over         us given back so
                                                ``Rate.denominator``   far, rounded up
fixed_window    start of the window, us         units used in it       unused
sliding_window  start of the window, us         units used in it       units of the one before
sliding_log     units in the log                when to look again     unused
concurrency     slots in use                    when to look again     unused
==============  ==============================  =====================  ====================

For the last two, a and b are what a script reports; the log itself is ``entries``:
(time in us, cost) for ``sliding_log``, (lease's end in us, member) for ``concurrency``.
``blocked_until_us`` stands beside all of them: until then every request is denied.

A denied request is free unless the rate charges denials. Then it takes what is left, and
never more: asking again uses up what has come free meanwhile, so that only a pause helps.

Promised bounds, for quota Q, burst B, over any span as long as the window: token_bucket
admits at most Q + B (GCRA, ITU-T I.371), fixed_window Q per aligned window and so at most
2 Q over an unaligned span, sliding_window Q per aligned window and under 2 Q over an
unaligned one, sliding_log exactly Q, concurrency Q at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from .rules import Algorithm, Rate


@dataclass(frozen=True, slots=True)
class State:
    a: int = 0
    b: int = 0
    c: int = 0
    entries: tuple[tuple[int, int | str], ...] = ()
    blocked_until_us: int = 0


EMPTY = State()


class Standing(NamedTuple):
    """Where an identity stands with a limit after a verdict.

    ``remaining`` units can be used at once. ``retry_after_us``: when the same request would be
    allowed if nobody else asked meanwhile, 0 where it was. ``reset_us``: until the whole quota
    is free. ``steady_us``: for how long no more than ``remaining`` can be used.
    """

    remaining: int
    retry_after_us: int
    reset_us: int
    steady_us: int


def decide(
    rate: Rate, state: State, now_us: int, cost: int | None = None, member: str = ""
) -> tuple[bool, State, State]:
    """(allowed, the state if it is not counted, the state if it is).

    Both states are brought forward to ``now_us``. Where the request is denied they differ by
    what a denial costs: nothing, unless the rate charges denials or blocks after them.
    """
    cost = rate.cost if cost is None else cost
    blocked_until_us = state.blocked_until_us if rate.block_us else 0
    if state.blocked_until_us:
        state = replace(state, blocked_until_us=0)
    allowed, idle, counted = _decide(rate, state, now_us, cost, member)
    if blocked_until_us > now_us:
        blocked = replace(idle, blocked_until_us=blocked_until_us)
        return False, blocked, blocked
    if not allowed:
        if rate.charge_denied:
            counted = _charge_denied(rate, idle, now_us, cost)
        if rate.block_us:
            counted = replace(counted, blocked_until_us=now_us + rate.block_us)
    return allowed, idle, counted


def _decide(
    rate: Rate, state: State, now_us: int, cost: int, member: str
) -> tuple[bool, State, State]:
    match rate.algorithm:
        case Algorithm.TOKEN_BUCKET:
            return _token_bucket(rate, state, now_us, cost)
        case Algorithm.FIXED_WINDOW:
            return _fixed_window(rate, state, now_us, cost)
        case Algorithm.SLIDING_WINDOW:
            return _sliding_window(rate, state, now_us, cost)
        case Algorithm.SLIDING_LOG:
            return _sliding_log(rate, state, now_us, cost)
        case Algorithm.CONCURRENCY:
            return _concurrency(rate, state, now_us, member)


def _token_bucket(rate: Rate, state: State, now: int, cost: int) -> tuple[bool, State, State]:
    idle = State(now, 0, state.c) if state.a < now else state
    if idle.b >= rate.denominator:  # Of the rate before an edit: less than a microsecond.
        idle = State(idle.a + 1, 0, idle.c)
    whole, part = rate.emission(cost)
    carry, remainder = divmod(idle.b + part, rate.denominator)
    charged = State(idle.a + whole + carry, remainder, state.c)
    tolerance, tolerance_part = rate.emission(rate.burst)
    if (charged.a, charged.b) <= (now + tolerance, tolerance_part):
        return True, idle, charged
    return False, idle, idle


def _fixed_window(rate: Rate, state: State, now: int, cost: int) -> tuple[bool, State, State]:
    start = now - now % rate.window_us
    idle = state if state.a == start else State(start)
    if idle.b + cost <= rate.quota:
        return True, idle, replace(idle, b=idle.b + cost)
    return False, idle, idle


def _sliding_window(rate: Rate, state: State, now: int, cost: int) -> tuple[bool, State, State]:
    start = now - now % rate.window_us
    if state.a == start:
        idle = state
    elif state.a == start - rate.window_us:
        idle = State(start, 0, state.b)
    else:
        idle = State(start)
    step = rate.resolution_us
    span = rate.window_us // step
    weighed = idle.c * (span - (now - start) // step)
    if weighed <= (rate.quota - idle.b - cost) * span:
        return True, idle, replace(idle, b=idle.b + cost)
    return False, idle, idle


def _sliding_log(rate: Rate, state: State, now: int, cost: int) -> tuple[bool, State, State]:
    entries = tuple(entry for entry in state.entries if entry[0] > now - rate.window_us)
    used = sum(int(units) for _, units in entries)
    if used + cost <= rate.quota:
        first = entries[0][0] if entries else now
        look = first + rate.window_us
        idle = State(used, look if entries else 0, 0, entries)
        return True, idle, State(used + cost, look, 0, (*entries, (now, cost)))
    idle = State(used, _log_fits_at(rate, entries, cost), 0, entries)
    return False, idle, idle


def _log_fits_at(rate: Rate, entries: tuple[tuple[int, int | str], ...], cost: int) -> int:
    """When enough of the oldest entries have left for ``cost`` to fit."""
    free = rate.quota - sum(int(units) for _, units in entries)
    look = 0
    for time_us, units in entries:
        free += int(units)
        look = time_us + rate.window_us
        if free >= cost:
            break
    return look


def _concurrency(rate: Rate, state: State, now: int, member: str) -> tuple[bool, State, State]:
    entries = tuple(sorted(entry for entry in state.entries if entry[0] > now))
    first = entries[0][0] if entries else 0
    idle = State(len(entries), first, 0, entries)
    if len(entries) >= rate.quota:
        return False, idle, idle
    held = tuple(sorted((*entries, (now + rate.window_us, member))))
    return True, idle, State(len(held), held[0][0], 0, held)


def _charge_denied(rate: Rate, idle: State, now: int, cost: int) -> State:
    """What a denied request takes where denials are charged: all that is left, at most."""
    match rate.algorithm:
        case Algorithm.TOKEN_BUCKET:
            whole, part = rate.emission(rate.burst)
            return State(*max((idle.a, idle.b), (now + whole, part)), idle.c)
        case Algorithm.SLIDING_LOG:
            # The denial enters, and as many of the oldest units leave as are over the quota.
            entries = (*idle.entries, (now, cost))
            over = idle.a + cost - rate.quota
            kept: list[tuple[int, int | str]] = []
            for time_us, units in entries:
                left = min(over, int(units))
                over -= left
                if left < int(units):
                    kept.append((time_us, int(units) - left))
            log = tuple(kept)
            used = sum(int(units) for _, units in log)
            return State(used, _log_fits_at(rate, log, cost), 0, log)
        case _:
            return replace(idle, b=max(idle.b, min(rate.quota, idle.b + cost)))


def refund(
    rate: Rate, state: State, charged_at: State, cost: int, member: str = "", now_us: int = 0
) -> State:
    """Give back a charge, named by the state that the charge left, so that no more is freed
    than was taken. Of a token bucket's charge only what has not refilled by ``now_us`` is.

    A token bucket refills its charges in the order in which they were made, so a charge has
    refilled by the arrival time that it left, less what was given back of charges before it.
    Of those after it, too, is taken off here: that can give back less, never more.
    """
    left = _refund(rate, state, charged_at, cost, member, now_us)
    return replace(left, blocked_until_us=state.blocked_until_us)


def _refund(
    rate: Rate, state: State, charged_at: State, cost: int, member: str, now_us: int
) -> State:
    match rate.algorithm:
        case Algorithm.TOKEN_BUCKET:
            given_since = state.c - charged_at.c
            if given_since < 0:  # The bucket was reset meanwhile.
                return state
            unit = rate.denominator
            whole, part = rate.emission(cost)
            still_taken = (charged_at.a - given_since - now_us) * unit + charged_at.b
            given = max(0, min(whole * unit + part, still_taken))
            a, b = divmod(max(0, state.a * unit + state.b - given), unit)
            return State(a, b, state.c - (-given // unit))
        case Algorithm.FIXED_WINDOW:
            if state.a == charged_at.a:
                return replace(state, b=max(0, state.b - cost))
        case Algorithm.SLIDING_WINDOW:
            if state.a == charged_at.a:
                return replace(state, b=max(0, state.b - cost))
            if state.a == charged_at.a + rate.window_us:
                return replace(state, c=max(0, state.c - cost))
        case Algorithm.SLIDING_LOG:
            entries = list(state.entries)
            if charged_at.entries and charged_at.entries[-1] in entries:
                entries.remove(charged_at.entries[-1])
            used = sum(int(units) for _, units in entries)
            look = entries[0][0] + rate.window_us if entries else 0
            return State(used, look, 0, tuple(entries))
        case Algorithm.CONCURRENCY:
            held = tuple(entry for entry in state.entries if entry[1] != member)
            return State(len(held), held[0][0] if held else 0, 0, held)
    return state


def standing(
    rate: Rate, ok: int, a: int, b: int, c: int, now: int, cost: int | None = None
) -> Standing:
    """What a state says, from the four integers that a script replies.

    ``ok``: 1 allowed, 0 denied, else denied and blocked until that time, us.
    """
    cost = rate.cost if cost is None else cost
    if rate.algorithm is Algorithm.TOKEN_BUCKET:
        natural = _token_bucket_standing(rate, ok == 1, a, b, now, cost)
    else:
        natural = _standing(rate, ok == 1, a, b, c, now, cost)
    if ok <= 1:
        return natural
    wait = ok - now
    return Standing(0, max(wait, natural.retry_after_us), max(wait, natural.reset_us), wait)


def _standing(rate: Rate, allowed: bool, a: int, b: int, c: int, now: int, cost: int) -> Standing:
    match rate.algorithm:
        case Algorithm.FIXED_WINDOW:
            end = a + rate.window_us - now
            # Under a block it may fit already: then only the block is waited for.
            fits = allowed or b + cost <= rate.quota
            return Standing(max(0, rate.quota - b), 0 if fits else end, end if b else 0, end)
        case Algorithm.SLIDING_WINDOW:
            return _sliding_window_standing(rate, allowed, a, b, c, now, cost)
        case _:
            wait = max(0, b - now)
            reset = rate.window_us if a else 0
            # A slot may be released at any time: nothing is promised of the next instant.
            steady = wait if rate.algorithm is Algorithm.SLIDING_LOG else 0
            fits = allowed or a + cost <= rate.quota
            return Standing(max(0, rate.quota - a), 0 if fits else wait, reset, steady)


def _token_bucket_standing(
    rate: Rate, allowed: bool, a: int, b: int, now: int, cost: int
) -> Standing:
    # Exact, in units of 1/denominator us: Python's integers do not overflow.
    per_token, unit = rate.fraction
    debt = max(0, (a - now) * unit + min(b, unit))  # b may be of the rate before an edit.
    room = rate.burst * per_token - debt
    remaining = max(0, room // per_token)
    retry = 0 if allowed else -(-(debt + cost * per_token - rate.burst * per_token) // unit)
    next_token = -(-((remaining + 1) * per_token - room) // unit) if debt else 0
    return Standing(remaining, max(0, retry), -(-debt // unit), next_token)


def _sliding_window_standing(
    rate: Rate, allowed: bool, a: int, b: int, c: int, now: int, cost: int
) -> Standing:
    step = rate.resolution_us
    span = rate.window_us // step
    aged = c * (span - (now - a) // step)
    remaining = max(0, (rate.quota * span - aged) // span - b)
    end = a + rate.window_us - now
    reset = end + rate.window_us if b else (end if c else 0)
    # One more than remains: either all at once later, or what remains now and one more later.
    steady = min(
        _sliding_wait(rate, a, b, c, now, min(remaining + 1, rate.quota)),
        _sliding_wait(rate, a, b + remaining, c, now, 1),
    )
    return Standing(
        remaining, 0 if allowed else _sliding_wait(rate, a, b, c, now, cost), reset, steady
    )


def _sliding_wait(rate: Rate, start: int, used: int, before: int, now: int, cost: int) -> int:
    """Microseconds from ``now`` until ``cost`` fits, if nobody else asks."""
    step = rate.resolution_us
    span = rate.window_us // step
    for _ in range(2):
        room = rate.quota - used - cost
        if room >= 0:
            age = 0 if before == 0 else max(0, -(-(before - room) * span // before))
            if age < span:
                return max(0, start + age * step - now)
        start, used, before = start + rate.window_us, 0, used
    return start - now
