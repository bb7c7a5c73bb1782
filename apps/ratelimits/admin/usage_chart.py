"""A limit's usage as the theme's Chart.js draws it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from ..charting import BLUE, RED, milliseconds, options, uprights
from ..history import Edit
from ..usage_history import Point

AMBER = "#d97706"


@dataclass(frozen=True, slots=True)
class Line:
    """One number of the points. ``dash``: how it is told from another line without its colour."""

    part: str
    label: str
    colour: str
    dash: tuple[int, ...] = ()


ALLOWED = (Line("allowed", "allowed", BLUE),)
DENIED = (
    Line("denied", "denied", RED),
    Line("would_deny", "would have denied", AMBER, (5, 3)),
)


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    lines: tuple[Line, ...]
    data: str
    options: str


def chart(
    title: str,
    lines: tuple[Line, ...],
    points: Sequence[Point],
    edits: Iterable[Edit],
    until: datetime,
) -> Chart:
    """``points`` of equal lengths, two at least. A line that is nothing all the way is left out,
    where there is another."""
    drawn = [line for line in lines if any(getattr(point, line.part) for point in points)]
    lines = tuple(drawn) or lines[:1]
    length = points[-1].at - points[-2].at
    end = points[-1].at + length
    top = max([getattr(point, line.part) for point in points for line in lines] + [1]) * 1.1
    sets = [_line(line, points, end) for line in lines]
    marks = [(edit.at, [_by(edit), _clock(edit.at)]) for edit in edits]
    data = {"datasets": [*sets, uprights("edited", marks, (0, top))]}
    shown = options((0, top), (points[0].at, max(end, until)), x_ticks=6, whole=True)
    return Chart(title, lines, json.dumps(data), json.dumps(shown))


def _line(line: Line, points: Sequence[Point], end: datetime) -> dict[str, Any]:
    dots: list[dict[str, Any]] = [
        {
            "x": milliseconds(point.at),
            "y": getattr(point, line.part),
            "said": [f"{getattr(point, line.part):,} {line.label}", _clock(point.at)],
        }
        for point in points
    ]
    # A number is of the time that begins at its point: the last one's too is drawn to its end.
    dots.append({"x": milliseconds(end), "y": dots[-1]["y"]})
    return {
        "label": line.label,
        "data": dots,
        "borderColor": line.colour,
        "backgroundColor": f"{line.colour}22",
        "borderDash": list(line.dash),
        "borderWidth": 1.5,
        "stepped": "before",
        "fill": "origin",
        "pointRadius": 0,
        "pointHitRadius": 6,
        "pointHoverRadius": 3,
        "order": 1,
    }


def _by(edit: Edit) -> str:
    return f"{edit} by {edit.who}" if edit.who else str(edit)


def _clock(at: datetime) -> str:
    return timezone.localtime(at).strftime("%d %b %Y, %H:%M")
