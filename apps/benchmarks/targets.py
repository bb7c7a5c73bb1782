"""What a measurement must reach, and whether it does: pure, so that the verdict can be tested."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from . import statistics
from .records import Direction, Result

OURS = "iota"
FLOOR = "floor"
FASTEST_PEER = "the fastest peer"


class Sense(StrEnum):
    """``AT_MOST`` bounds our cost as a multiple of the other's; the others say how many times
    as good as the other we must be (as fast, as many requests a second)."""

    AT_MOST = "<="
    AT_LEAST = ">="
    MORE_THAN = ">"


_HOLDS: Mapping[Sense, Callable[[float, float], bool]] = {
    Sense.AT_MOST: operator.le,
    Sense.AT_LEAST: operator.ge,
    Sense.MORE_THAN: operator.gt,
}


@dataclass(frozen=True, slots=True)
class Target:
    """``of`` measured beside ``against`` (a contestant, or FASTEST_PEER).

    Without a bound it only informs; then ``against`` may be empty, too.
    """

    title: str
    against: str = ""
    sense: Sense = Sense.AT_MOST
    bound: float | None = None
    of: str = OURS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one benchmark measured, per contestant; ``absent`` says of the others why.

    ``error`` tells what ended the benchmark before it had measured.
    """

    results: Mapping[str, Result] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ``met`` is None where nothing was asked.

    ``measured`` and ``other`` are medians; ``ratio`` is the median of the ratios round by round,
    which what slows a whole round down does not move.
    """

    benchmark: str
    title: str
    target: str
    met: bool | None
    unit: str = ""
    measured: float | None = None
    against: str = ""
    other: float | None = None
    ratio: float | None = None
    ratio_quartiles: tuple[float, float] | None = None
    note: str = ""


def judge(benchmark: str, target: Target, outcome: Outcome, peers: tuple[str, ...]) -> Row:
    """The row of a target. What could not be measured is not met, whatever the rest shows."""
    asked = "" if target.bound is None else f"{target.sense} {target.bound:g} x"
    failed = None if target.bound is None else False
    ours = outcome.results.get(target.of)
    if ours is None:
        note = outcome.error or _why_absent(outcome, target.of)
        return Row(benchmark, target.title, asked, failed, note=note)
    if not target.against:
        return Row(benchmark, target.title, asked, failed, ours.unit, ours.p50)
    name, missing = target.against, ""
    if target.against == FASTEST_PEER:
        name = fastest(outcome, peers)
        missing = "; ".join(_why_absent(outcome, p) for p in peers if p not in outcome.results)
    other = outcome.results.get(name)
    if other is None:
        note = missing or _why_absent(outcome, name)
        return Row(benchmark, target.title, asked, failed, ours.unit, ours.p50, note=note)
    above, below = _as_ratio(target.sense, ours, other)
    ratios = statistics.paired_ratios(above.samples, below.samples)
    ratio = statistics.median(ratios)
    met = None
    if target.bound is not None:
        met = _HOLDS[target.sense](ratio, target.bound) and not missing
    return Row(
        benchmark,
        target.title,
        asked,
        met,
        ours.unit,
        ours.p50,
        name,
        other.p50,
        ratio,
        statistics.quartiles(ratios),
        missing,
    )


def fastest(outcome: Outcome, peers: tuple[str, ...]) -> str:
    """The best of the peers that took part; empty where none did."""
    present = [name for name in peers if name in outcome.results]
    if not present:
        return ""
    best = min if outcome.results[present[0]].direction is Direction.LOWER else max
    return best(present, key=lambda name: outcome.results[name].p50)


def _why_absent(outcome: Outcome, name: str) -> str:
    return f"{name}: {outcome.absent.get(name, 'not measured')}"


def _as_ratio(sense: Sense, ours: Result, other: Result) -> tuple[Result, Result]:
    """Dividend and divisor: a cost for AT_MOST, else how many times as good we are."""
    if sense is Sense.AT_MOST or ours.direction is Direction.HIGHER:
        return ours, other
    return other, ours
