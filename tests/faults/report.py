"""The table of faults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

HEADINGS = (
    "fault",
    "site",
    "plays",
    "requests",
    "wrong answers",
    "5xx",
    "added p99, ms",
    "added p99, breaker open, ms",
    "longest, ms",
    "exact again, s",
)


@dataclass(frozen=True, slots=True)
class Row:
    """``errors``: 5xx that no policy asked for, and requests without an answer. ``plays``: so often
    was it played until no target was missed. Times in s; NaN where there is nothing to measure;
    without a fault ``added_p99_s`` is p99 itself."""

    fault: str
    site: str
    plays: int
    requests: int
    wrong: int
    errors: int
    added_p99_s: float
    added_p99_open_s: float
    longest_s: float
    exact_after_s: float

    def cells(self) -> tuple[str, ...]:
        counts = (str(n) for n in (self.plays, self.requests, self.wrong, self.errors))
        times = (
            _shown(1_000 * seconds, 1)
            for seconds in (self.added_p99_s, self.added_p99_open_s, self.longest_s)
        )
        return self.fault, self.site, *counts, *times, _shown(self.exact_after_s, 2)


def _shown(value: float, digits: int) -> str:
    if math.isnan(value):
        return ""
    return "never" if math.isinf(value) else f"{value:.{digits}f}"


def as_text(rows: Sequence[Row]) -> str:
    table = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[place]) for line in table) for place in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )


def as_markdown(rows: Sequence[Row]) -> str:
    lines = [HEADINGS, ("---", "---", *["---:"] * (len(HEADINGS) - 2)), *(r.cells() for r in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
