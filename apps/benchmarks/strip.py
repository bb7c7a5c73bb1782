"""The samples of a run as a strip: a line each, on one scale. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 200
MOST = 200
"""Lines; more lie on top of each other."""


@dataclass(frozen=True, slots=True)
class Strip:
    """Places from 0 to ``WIDTH``: of the samples, and of their median."""

    marks: tuple[float, ...]
    median: float
    low: float
    high: float


def strip(samples: Sequence[float], median: float) -> Strip | None:
    """None without samples. The extremes are always among the lines."""
    if not samples:
        return None
    ordered = sorted(samples)
    low, high = ordered[0], ordered[-1]
    if len(ordered) > MOST:
        step = (len(ordered) - 1) / (MOST - 1)
        ordered = [ordered[round(number * step)] for number in range(MOST)]
    width = high - low

    def place(value: float) -> float:
        return round(WIDTH * (value - low) / width, 1) if width else WIDTH / 2

    return Strip(tuple(map(place, ordered)), min(WIDTH, max(0, place(median))), low, high)
