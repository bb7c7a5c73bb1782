"""The same requests, decided by every algorithm with the reference arithmetic itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from apps.ratelimits.policy.algorithms import EMPTY, State, decide, refund, standing
from apps.ratelimits.policy.rules import Algorithm, Rate

from .markdown import table

S = 1_000_000
WINDOW_S, QUOTA = 10, 4
END_S = 24.0
AT_S = (1.0, 7.0, 7.5, 8.0, 8.5, 10.5, 11.0, 11.5, 12.0, 16.0, 18.0, 18.5, 22.0)
"""One request, then a rush across the edge of a window, then stragglers."""

RATES: Mapping[str, Rate] = {
    algorithm.value: Rate(algorithm, QUOTA, WINDOW_S * S, QUOTA)
    for algorithm in Algorithm
    if algorithm is not Algorithm.CONCURRENCY
}

SLOTS = Rate(Algorithm.CONCURRENCY, 2, WINDOW_S * S, 2)
VISITS: Sequence[tuple[str, float, float | None]] = (
    ("A", 0.5, 5.0),
    ("B", 2.0, 8.0),
    ("C", 3.0, None),
    ("D", 6.0, None),
    ("E", 7.0, None),
    ("F", 9.0, 13.0),
    ("G", 14.0, 19.0),
    ("H", 15.0, None),
    ("I", 17.0, 21.0),
)
"""Who comes when, and gives the slot back when; D never does, so that its lease must end."""


class Step(NamedTuple):
    at_s: float
    allowed: bool
    free: Fraction
    """Units that could be used at once, just before."""
    left: int
    retry_after_s: float


class Curve(NamedTuple):
    """What is free over time: (s, units), and what was asked meanwhile."""

    points: list[tuple[float, float]]
    steps: list[Step]


def free_units(rate: Rate, state: State, now_us: int) -> Fraction:
    """Of a state that was brought forward to now. Its whole part is what ``standing`` calls
    remaining; a part of a unit is on its way."""
    match rate.algorithm:
        case Algorithm.TOKEN_BUCKET:
            per_token, unit = rate.fraction
            debt = max(0, (state.a - now_us) * unit + state.b)
            return Fraction(rate.burst) - Fraction(debt, per_token)
        case Algorithm.FIXED_WINDOW:
            return Fraction(rate.quota - state.b)
        case Algorithm.SLIDING_WINDOW:
            ahead = Fraction(rate.window_us - (now_us - state.a), rate.window_us)
            return max(Fraction(0), rate.quota - state.b - state.c * ahead)
        case _:
            return Fraction(rate.quota - state.a)


def replay(rate: Rate, at_s: Sequence[float] = AT_S, end_s: float = END_S) -> Curve:
    """Decided one after the other; looked at twenty times a second."""
    state, waiting = EMPTY, [round(one * S) for one in at_s]
    points: list[tuple[float, float]] = []
    steps: list[Step] = []
    for now in sorted({*range(0, round(end_s * S) + 1, S // 20), *waiting}):
        allowed, idle, counted = decide(rate, state, now)
        free = free_units(rate, idle, now)
        points.append((now / S, float(free)))
        if now in waiting:
            state = counted
            said = standing(rate, int(allowed), counted.a, counted.b, counted.c, now)
            wait_s = said.retry_after_us / S
            steps.append(Step(now / S, allowed, free, said.remaining, wait_s))
            points.append((now / S, float(free_units(rate, counted, now))))
    return Curve(points, steps)


class Visit(NamedTuple):
    name: str
    at_s: float
    allowed: bool
    end_s: float
    """When its slot is free again: given back, or its lease is over."""
    given_back: bool


def visits(rate: Rate = SLOTS) -> list[Visit]:
    """The slots, decided in the order of time."""
    happenings = [(at_s, 1, name) for name, at_s, _ in VISITS]
    happenings += [(end_s, 0, name) for name, _, end_s in VISITS if end_s is not None]
    state, held_at, decided = EMPTY, {}, {}
    for at_s, comes, name in sorted(happenings):
        now = round(at_s * S)
        if comes:
            allowed, _, state = decide(rate, state, now, member=name)
            decided[name] = (at_s, allowed)
            held_at[name] = state
        elif decided[name][1]:
            state = refund(rate, state, held_at[name], 1, name, now)
    back = {name: end_s for name, _, end_s in VISITS}
    found = []
    for name, (at_s, allowed) in decided.items():
        lease_s = at_s + rate.window_us / S
        end_s = min(back[name] or lease_s, lease_s) if allowed else at_s
        found.append(Visit(name, at_s, allowed, end_s, bool(allowed and back[name])))
    return found


def most_in_a_window(curve: Curve, window_s: float = WINDOW_S) -> int:
    """Admitted in the worst span as long as a window: half open, as windows are."""
    admitted = [step.at_s for step in curve.steps if step.allowed]
    return max(sum(start <= at < start + window_s for at in admitted) for start in admitted)


def as_table() -> str:
    curves = {name: replay(rate) for name, rate in RATES.items()}
    rows = []
    for number, at_s in enumerate(AT_S):
        rows.append([f"{at_s:g} s", *(_said(curve.steps[number]) for curve in curves.values())])
    admitted = [sum(step.allowed for step in curve.steps) for curve in curves.values()]
    rows.append([f"admitted of {len(AT_S)}", *map(str, admitted)])
    worst = [most_in_a_window(curve) for curve in curves.values()]
    rows.append([f"most in {WINDOW_S} s", *(f"**{number}**" for number in worst)])
    return table(("a request at", *(f"`{name}`" for name in curves)), rows)


def _said(step: Step) -> str:
    if step.allowed:
        return f"allowed, {step.left} left"
    return f"**denied**, wait {step.retry_after_s:g}\N{NO-BREAK SPACE}s"


def visits_table() -> str:
    rows = []
    for one in visits():
        if not one.allowed:
            said = "**denied**: both slots are in use"
        elif one.given_back:
            said = f"allowed; gives its slot back at {one.end_s:g} s"
        else:
            said = f"allowed; never gives its slot back: its lease ends at {one.end_s:g} s"
        rows.append((one.name, f"{one.at_s:g} s", said))
    return table(("who", "comes at", "what happens"), rows)


def edges_s() -> list[float]:
    return [WINDOW_S * n for n in range(int(END_S // WINDOW_S) + 1)]


def joined(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without those that lie on the line between their neighbours."""
    kept = [points[0]]
    for here, after in pairwise(points[1:]):
        before = kept[-1]
        span = after[0] - before[0]
        on_line = (
            before[1] + (after[1] - before[1]) * (here[0] - before[0]) / span if span else None
        )
        if on_line is None or abs(on_line - here[1]) > 1e-9:
            kept.append(here)
    return [*kept, points[-1]]
