"""What a run found, as Markdown for people and documents, and as JSON for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from .records import Result
from .registry import Run
from .revision import current
from .targets import Row

DISTRIBUTIONS = (
    "Django",
    "redis",
    "hiredis",
    "granian",
    "limits",
    "valkey",
    "libvalkey",
    "throttled-py",
    "django-smart-ratelimit",
    "django-ratelimit",
    "djangorestframework",
)


def machine(run: Run, load_generator: str) -> dict[str, str]:
    """What a figure depends on, beside the code; versions of what is not installed are left out."""
    found = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "valkey-server": run.server.version,
        "rounds": str(run.rounds),
        "cores": cores(run),
        "load generator": load_generator,
    }
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cores(run: Run) -> str:
    if run.core is None:
        return "NOT PINNED: this system lets no process choose its core; figures vary more"
    if run.load_core == run.core:
        return f"client, server and load on core {run.core}, the only one"
    return f"client and server on core {run.core}, HTTP load on core {run.load_core}"


def figure(value: float | None, unit: str = "") -> str:
    """Three digits that mean something, with the unit."""
    if value is None:
        return ""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f} {unit}".rstrip()


def rows_table(rows: Sequence[Row]) -> str:
    """With what there is to say of a row below the table, by number."""
    header = ("row", "what", "measured", "beside", "ratio (quartiles)", "target", "met")
    notes = list(dict.fromkeys(row.note for row in rows if row.note))
    table = markdown(header, [_cells(row, notes) for row in rows])
    return "\n".join([table, *(f"[{number}] {note}" for number, note in enumerate(notes, 1))])


def _cells(row: Row, notes: list[str]) -> tuple[str, ...]:
    ratio = figure(row.ratio)
    if row.ratio_quartiles:
        low, high = row.ratio_quartiles
        ratio += f" ({figure(low)} to {figure(high)})"
    beside = f"{row.against} {figure(row.other, row.unit)}".strip()
    met = {True: "yes", False: "NO", None: ""}[row.met]
    if row.note:
        met = f"{met} [{notes.index(row.note) + 1}]".strip()
    title = row.title
    return (row.benchmark, title, figure(row.measured, row.unit), beside, ratio, row.target, met)


def results_table(results: Sequence[Result]) -> str:
    """Every contestant, the fastest first within its row."""
    header = ("row", "contestant", "median", "quartiles", "best", "n")
    return markdown(
        header,
        [
            (
                str(result.parameters["benchmark"]),
                str(result.parameters["contestant"]),
                figure(result.p50, result.unit),
                " to ".join(figure(value) for value in result.quartiles),
                figure(result.best),
                str(result.n),
            )
            for result in results
        ],
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown whose columns stand below each other."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def summary(rows: Sequence[Row]) -> tuple[int, list[Row]]:
    """How many targets are met, and the rows of those that are not."""
    return sum(row.met is True for row in rows), [row for row in rows if row.met is False]


def as_json(rows: Sequence[Row], results: Sequence[Result], about: dict[str, str]) -> Any:
    met, missed = summary(rows)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": current().commit,
        # Beside other work figures are worse than the machine.
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "machine": about,
        "met": met,
        "missed": len(missed),
        "rows": [
            {
                "row": row.benchmark,
                "title": row.title,
                "measured": row.measured,
                "unit": row.unit,
                "against": row.against,
                "other": row.other,
                "ratio": row.ratio,
                "ratio_quartiles": row.ratio_quartiles,
                "target": row.target,
                "met": row.met,
                "note": row.note,
            }
            for row in rows
        ],
        "results": [result.as_dict() for result in results],
    }
