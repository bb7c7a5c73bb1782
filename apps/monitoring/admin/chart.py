"""One metric of a source as the theme's Chart.js draws it: low to high shaded, the mean, and the
alert's threshold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.utils import timezone

from apps.ratelimits import charting
from apps.ratelimits.charting import BLUE, CLEAR, RED, milliseconds

from ..history import Point
from ..metrics import Metric, Unit
from .edits import Edit
from .standing import shown

SCALES = {
    Unit.US: (1_000.0, "ms"),
    Unit.BYTES: (2.0**20, "MiB"),
    Unit.PERCENT: (1.0, "%"),
    Unit.S: (1.0, "s"),
    Unit.PER_S: (1.0, "per second"),
    Unit.COUNT: (1.0, ""),
}


def data(
    metric: Metric, points: Sequence[Point], threshold: float | None, edits: Iterable[Edit]
) -> str:
    scale, _ = SCALES[metric.unit]
    top = _top(points, threshold) / scale
    marks = [(edit.at, [edit.text, _clock(edit.at)]) for edit in edits]
    sets = [
        _line("Mean", points, lambda point: point.mean, scale, metric.unit),
        *_threshold(points, threshold, scale, metric.unit),
        charting.uprights("Limits edited", marks, (0, top)),
        _edge("Low", points, lambda point: point.low, scale),
        {
            **_edge("Low to high", points, lambda point: point.high, scale),
            "fill": "-1",
            "backgroundColor": "#3b82f633",
        },
    ]
    return json.dumps({"datasets": sets})


def options(metric: Metric, points: Sequence[Point], threshold: float | None) -> str:
    scale, unit = SCALES[metric.unit]
    top = _top(points, threshold) / scale
    return json.dumps(charting.options((0, top), (points[0].at, points[-1].at), unit=unit))


def _top(points: Sequence[Point], threshold: float | None) -> float:
    """Above all that is drawn; the threshold too, so that the way to it is seen."""
    highest = max([point.high or 0.0 for point in points] + [threshold or 0.0])
    return highest * 1.08 or 1.0


def _line(label: str, points: Sequence[Point], part: Any, scale: float, unit: Unit) -> Any:
    dots = [
        {"x": milliseconds(point.at), "y": None}
        if point.mean is None
        else {"x": milliseconds(point.at), "y": part(point) / scale, "said": _said(point, unit)}
        for point in points
    ]
    # A point between two gaps would be no line: it is drawn as one.
    alone = [
        point.mean is not None
        and (place == 0 or points[place - 1].mean is None)
        and (place + 1 == len(points) or points[place + 1].mean is None)
        for place, point in enumerate(points)
    ]
    return {
        "label": label,
        "data": dots,
        "borderColor": BLUE,
        "backgroundColor": BLUE,
        "borderWidth": 1.5,
        "pointStyle": "circle",
        "pointRadius": [2 if single else 0 for single in alone],
        "pointHitRadius": 6,
        "pointHoverRadius": 4,
        "spanGaps": False,
        "order": 1,
    }


def _said(point: Point, unit: Unit) -> list[str]:
    at = _clock(point.at)
    if point.low == point.high:
        return [shown(point.mean, unit), at]
    between = f"{shown(point.low, unit)} to {shown(point.high, unit)}"
    return [f"{shown(point.mean, unit)} ({between})", at]


def _threshold(
    points: Sequence[Point], threshold: float | None, scale: float, unit: Unit
) -> list[dict[str, Any]]:
    if threshold is None:
        return []
    ends = [points[0].at, points[-1].at]
    return [
        {
            "label": f"Alert above {shown(threshold, unit)}",
            "data": [{"x": milliseconds(at), "y": threshold / scale} for at in ends],
            "borderColor": RED,
            "borderWidth": 1.5,
            "borderDash": [6, 4],
            "pointRadius": 0,
            "pointHitRadius": 0,
            "order": 2,
        }
    ]


def _edge(label: str, points: Sequence[Point], part: Any, scale: float) -> dict[str, Any]:
    dots = [
        {"x": milliseconds(point.at), "y": None if part(point) is None else part(point) / scale}
        for point in points
    ]
    return {
        "label": label,
        "data": dots,
        "borderWidth": 0,
        "borderColor": CLEAR,
        "pointRadius": 0,
        "pointHitRadius": 0,
        "order": 9,
    }


def _clock(at: datetime) -> str:
    return timezone.localtime(at).strftime("%d %b %Y, %H:%M:%S")
