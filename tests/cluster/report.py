"""The table of scenarios."""

from __future__ import annotations

from collections.abc import Sequence

from .judging import Row

HEADINGS = (
    "scenario",
    "requests",
    "wrong answers",
    "5xx",
    "failover, s",
    "decided by policy",
    "of these on other nodes",
    "over-admitted",
    "bound by lag",
    "exact again, s",
)


def cells(row: Row) -> tuple[str, ...]:
    counts = (row.by_policy, row.by_policy_elsewhere, row.over_admitted, row.bound)
    return (
        row.scenario,
        f"{row.requests:,}",
        str(row.wrong),
        str(row.errors),
        "" if row.failover_s is None else f"{row.failover_s:.2f}",
        *(str(number) for number in counts),
        "" if row.exact_after_s is None else f"{row.exact_after_s:.2f}",
    )


def as_text(rows: Sequence[Row]) -> str:
    table = [HEADINGS, *map(cells, rows)]
    widths = [max(len(line[place]) for line in table) for place in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )


def as_markdown(rows: Sequence[Row]) -> str:
    lines = [HEADINGS, ("---", *["---:"] * (len(HEADINGS) - 1)), *map(cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
