"""A series as the theme's Chart.js draws it: bands, baseline and happenings are datasets.

``trends.js`` adds what JSON cannot say: dates on the axis, the words of a point, a click on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from ..models import Regression
from ..series import Point, Series
from ..templatetags.figures import exact, figure
from .happenings import Happening

GREY = "#9ca3af"
BLUE, RED, ORANGE, GREEN = "#3b82f6", "#dc2626", "#ea580c", "#16a34a"
PURPLE = "#a855f7"
CLEAR = "rgba(0, 0, 0, 0)"


def data(series: Series, drawn: Sequence[int], happened: Iterable[Happening]) -> str:
    points = [series.points[place] for place in drawn]
    levels = [(series.points[place].at, "Another level begins") for place in series.change_points]
    edges = _extent(series, points)
    datasets = [
        *_medians(series, points),
        _lines("Level changes", PURPLE, [], edges, levels),
        _lines("Happened", GREY, [2, 4], edges, [(o.at, f"{o.kind}: {o.text}") for o in happened]),
        *_band(series, points),
        *_spread(points),
    ]
    return json.dumps({"datasets": datasets})


def options(series: Series, drawn: Sequence[int]) -> str:
    bottom, top = _extent(series, [series.points[place] for place in drawn])
    unit = series.metric.unit
    ticks = {"color": GREY, "maxRotation": 0, "maxTicksLimit": 8}
    grid = {"tickWidth": 0, "color": GREY}
    return json.dumps(
        {
            "animation": False,
            "responsive": True,
            "maintainAspectRatio": False,
            "interaction": {"mode": "nearest", "axis": "xy", "intersect": False},
            "plugins": {"legend": {"display": False}, "tooltip": {"displayColors": False}},
            "scales": {
                "x": {"type": "linear", "ticks": ticks, "grid": {**grid, "display": False}},
                "y": {
                    "min": bottom,
                    "max": top,
                    "ticks": {"color": GREY, "maxTicksLimit": 7, "includeBounds": False},
                    "grid": grid,
                    "title": {"display": bool(unit), "text": unit, "color": GREY},
                },
            },
        }
    )


def _extent(series: Series, points: Sequence[Point]) -> tuple[float, float]:
    """Of all that is drawn, with a margin; never below 0 for figures that are not."""
    lows = [point.median - point.mad for point in points]
    highs = [point.median + point.mad for point in points]
    if series.band:
        lows.append(series.band.low)
        highs.append(series.band.high)
    bottom, top = min(lows), max(highs)
    margin = (top - bottom) * 0.06 or abs(top) * 0.06 or 1.0
    return (max(0.0, bottom - margin) if bottom >= 0 else bottom - margin), top + margin


def _medians(series: Series, points: Sequence[Point]) -> list[dict[str, Any]]:
    """The line through what counts; reruns and edited files, and what was flagged, as signs."""
    unit = series.metric.unit
    counted = [point for point in points if point.counts]
    others = [point for point in points if not point.counts]
    # A triangle says where to look; what came to nothing is a point like any other.
    flagged = {
        run: one
        for run, one in series.flagged.items()
        if one.state not in (Regression.State.REFUTED, Regression.State.IGNORED)
    }
    signs = [point for point in points if point.run in flagged]
    return [
        {
            "label": "Flagged",
            "data": [_dot(point, unit, _said(flagged[point.run])) for point in signs],
            "showLine": False,
            "pointStyle": [
                "rectRot" if flagged[point.run].better else "triangle" for point in signs
            ],
            "pointRadius": 9,
            "pointHoverRadius": 11,
            "backgroundColor": [GREEN if flagged[point.run].better else RED for point in signs],
            "order": 0,
        },
        {
            "label": "Median of a run",
            "data": [_dot(point, unit) for point in counted],
            "borderColor": BLUE,
            "backgroundColor": BLUE,
            "borderWidth": 1.5,
            "pointRadius": 3 if len(points) <= 120 else 1.5,
            "pointHoverRadius": 6,
            "order": 1,
        },
        {
            "label": "Not counted",
            "data": [_dot(point, unit) for point in others],
            "showLine": False,
            "borderColor": BLUE,
            "backgroundColor": CLEAR,
            "pointStyle": "circle",
            "pointRadius": 4,
            "pointBorderWidth": 1.5,
            "order": 1,
        },
    ]


def _spread(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Half of a run's samples lie within its MAD."""
    low = [{"x": _ms(point.at), "y": point.median - point.mad} for point in points]
    high = [{"x": _ms(point.at), "y": point.median + point.mad} for point in points]
    return [
        _edge("Spread, low", low, order=8),
        {**_edge("Spread", high, order=9), "fill": "-1", "backgroundColor": "#3b82f633"},
    ]


def _band(series: Series, points: Sequence[Point]) -> list[dict[str, Any]]:
    """Flat, over the whole of the period: where a run is no suspect, and the baseline's median."""
    if series.band is None:
        return []
    ends = (_ms(points[0].at), _ms(points[-1].at))

    def flat(value: float) -> list[dict[str, float]]:
        return [{"x": x, "y": value} for x in ends]

    return [
        _edge("Band, low", flat(series.band.low), order=6),
        {
            **_edge("Band", flat(series.band.high), order=7),
            "fill": "-1",
            "backgroundColor": "#9ca3af2e",
        },
        {
            **_edge("Baseline", flat(series.band.median), order=5),
            "borderColor": ORANGE,
            "borderWidth": 1.5,
            "borderDash": [6, 4],
        },
    ]


def _lines(
    label: str,
    colour: str,
    dash: list[int],
    edges: tuple[float, float],
    marks: Iterable[tuple[datetime, str]],
) -> dict[str, Any]:
    """Upright lines, each with a mark on top that says what it is."""
    bottom, top = edges
    dots: list[dict[str, Any]] = []
    for at, text in marks:
        said = [text, exact(at)]
        dots += [
            {"x": _ms(at), "y": bottom, "quiet": True},
            {"x": _ms(at), "y": top, "said": said},
            {"x": _ms(at), "y": None},
        ]
    return {
        "label": label,
        "data": dots,
        "borderColor": colour,
        "backgroundColor": colour,
        "borderWidth": 1.5,
        "borderDash": dash,
        "pointRadius": [0, 4, 0] * (len(dots) // 3),
        "pointHitRadius": [0, 8, 0] * (len(dots) // 3),
        "pointStyle": "rectRot" if dash else "rect",
        "spanGaps": False,
        "clip": False,
        "order": 4,
    }


def _edge(label: str, dots: list[dict[str, float]], order: int) -> dict[str, Any]:
    return {
        "label": label,
        "data": dots,
        "borderWidth": 0,
        "borderColor": CLEAR,
        "pointRadius": 0,
        "pointHitRadius": 0,
        "order": order,
    }


def _dot(point: Point, unit: str, said: str = "") -> dict[str, Any]:
    lines = [
        f"{figure(point.median, unit)} ± {figure(point.mad)}",
        f"Run {point.run}{f' of {point.commit[:7]}' if point.commit else ''}",
        exact(point.at),
        said,
        point.note,
    ]
    return {
        "x": _ms(point.at),
        "y": point.median,
        "run": point.run,
        "said": [line for line in lines if line],
    }


def _said(regression: Regression) -> str:
    word = "Better" if regression.better else "Worse"
    return f"{word}: {Regression.State(regression.state).label.lower()}"


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
