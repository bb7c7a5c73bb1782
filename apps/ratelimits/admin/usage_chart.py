"""A limit's usage as the theme's Chart.js draws it. ``usage.js`` adds what JSON cannot say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from ..history import Edit
from ..usage_history import Point

GREY, BLUE, RED, AMBER = "#9ca3af", "#3b82f6", "#dc2626", "#d97706"


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
    data = {"datasets": [*sets, _edits(edits, top)]}
    return Chart(
        title, lines, json.dumps(data), json.dumps(_options(points[0].at, max(end, until), top))
    )


def _line(line: Line, points: Sequence[Point], end: datetime) -> dict[str, Any]:
    dots: list[dict[str, Any]] = [
        {
            "x": _ms(point.at),
            "y": getattr(point, line.part),
            "said": f"{getattr(point, line.part):,} {line.label}",
            "at": _clock(point.at),
        }
        for point in points
    ]
    # A number is of the time that begins at its point: the last one's too is drawn to its end.
    dots.append({"x": _ms(end), "y": dots[-1]["y"]})
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


def _edits(edits: Iterable[Edit], top: float) -> dict[str, Any]:
    dots: list[dict[str, Any]] = []
    for edit in edits:
        who = f" by {edit.who}" if edit.who else ""
        dots += [
            {"x": _ms(edit.at), "y": 0},
            {"x": _ms(edit.at), "y": top, "said": f"{edit}{who}", "at": _clock(edit.at)},
            {"x": _ms(edit.at), "y": None},
        ]
    return {
        "label": "edited",
        "data": dots,
        "borderColor": GREY,
        "backgroundColor": GREY,
        "borderWidth": 1,
        "borderDash": [2, 4],
        "pointStyle": "rectRot",
        "pointRadius": [0, 4, 0] * (len(dots) // 3),
        "pointHitRadius": [0, 8, 0] * (len(dots) // 3),
        "spanGaps": False,
        "clip": False,
        "order": 3,
    }


def _options(begin: datetime, end: datetime, top: float) -> dict[str, Any]:
    grid = {"tickWidth": 0, "color": GREY}
    return {
        "animation": False,
        "responsive": True,
        "maintainAspectRatio": False,
        "interaction": {"mode": "nearest", "axis": "xy", "intersect": False},
        "plugins": {"legend": {"display": False}, "tooltip": {"displayColors": False}},
        "scales": {
            "x": {
                "type": "linear",
                "min": _ms(begin),
                "max": _ms(end),
                "ticks": {"color": GREY, "maxRotation": 0, "maxTicksLimit": 6},
                "grid": {**grid, "display": False},
            },
            "y": {
                "min": 0,
                "max": top,
                "ticks": {
                    "color": GREY, "maxTicksLimit": 5, "includeBounds": False, "precision": 0,
                },
                "grid": grid,
            },
        },
    }  # fmt: skip


def _clock(at: datetime) -> str:
    return timezone.localtime(at).strftime("%d %b %Y, %H:%M")


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
