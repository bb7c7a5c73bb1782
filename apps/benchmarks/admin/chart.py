"""A series as the theme's Chart.js draws it: bands, baseline and happenings are datasets.

``trends.js`` adds what JSON cannot say: dates on the axis, the words of a point, a click on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from apps.ratelimits import charting
from apps.ratelimits.charting import BLUE, CLEAR, RED, milliseconds, uprights

from ..models import Regression
from ..series import Point, Series
from ..templatetags.figures import exact, figure
from .happenings import Happening

ORANGE, GREEN, PURPLE = "#ea580c", "#16a34a", "#a855f7"


def data(series: Series, drawn: Sequence[int], happened: Iterable[Happening]) -> str:
    points = [series.points[place] for place in drawn]
    levels = [series.points[place].at for place in series.change_points]
    changed = [(at, ["Another level begins", exact(at)]) for at in levels]
    marks = [(one.at, [f"{one.kind}: {one.text}", exact(one.at)]) for one in happened]
    edges = _extent(series, points)
    datasets = [
        *_medians(series, points),
        uprights("Level changes", changed, edges, colour=PURPLE, dash=(), width=1.5),
        uprights("Happened", marks, edges, width=1.5),
        *_band(series, points),
        *_spread(points),
    ]
    return json.dumps({"datasets": datasets})


def options(series: Series, drawn: Sequence[int]) -> str:
    bottom, top = _extent(series, [series.points[place] for place in drawn])
    unit = series.metric.unit
    return json.dumps(charting.options((bottom, top), unit=unit, x_ticks=8, y_ticks=7))


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
    low = [{"x": milliseconds(point.at), "y": point.median - point.mad} for point in points]
    high = [{"x": milliseconds(point.at), "y": point.median + point.mad} for point in points]
    return [
        _edge("Spread, low", low, order=8),
        {**_edge("Spread", high, order=9), "fill": "-1", "backgroundColor": "#3b82f633"},
    ]


def _band(series: Series, points: Sequence[Point]) -> list[dict[str, Any]]:
    """Flat, over the whole of the period: where a run is no suspect, and the baseline's median."""
    if series.band is None:
        return []
    ends = (milliseconds(points[0].at), milliseconds(points[-1].at))

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
        "x": milliseconds(point.at),
        "y": point.median,
        "run": point.run,
        "said": [line for line in lines if line],
    }


def _said(regression: Regression) -> str:
    word = "Better" if regression.better else "Worse"
    return f"{word}: {Regression.State(regression.state).label.lower()}"
