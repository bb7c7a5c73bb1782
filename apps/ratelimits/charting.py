"""What charts of the admin's pages have in common, as the theme's Chart.js takes it.

A dot's ``said`` are the lines of its words. ``ratelimits/charts.js`` adds what JSON cannot say.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

GREY, BLUE, RED = "#9ca3af", "#3b82f6", "#dc2626"
CLEAR = "rgba(0, 0, 0, 0)"


def milliseconds(at: datetime) -> int:
    """Since 1970, as JavaScript counts."""
    return round(at.timestamp() * 1000)


def options(
    y: tuple[float, float],
    x: tuple[datetime, datetime] | None = None,
    *,
    unit: str = "",
    x_ticks: int = 5,
    y_ticks: int = 5,
    whole: bool = False,
) -> dict[str, Any]:
    """``x``, ``y``: from where to where. ``whole``: numbers along the axis have no fractions."""
    grid = {"tickWidth": 0, "color": GREY}
    across: dict[str, Any] = {
        "type": "linear",
        "ticks": {"color": GREY, "maxRotation": 0, "maxTicksLimit": x_ticks},
        "grid": {**grid, "display": False},
    }
    if x is not None:
        across |= {"min": milliseconds(x[0]), "max": milliseconds(x[1])}
    ticks: dict[str, Any] = {"color": GREY, "maxTicksLimit": y_ticks, "includeBounds": False}
    if whole:
        ticks["precision"] = 0
    upwards: dict[str, Any] = {
        "min": y[0],
        "max": y[1],
        "ticks": ticks,
        "grid": grid,
        "title": {"display": bool(unit), "text": unit, "color": GREY},
    }
    return {
        "animation": False,
        "responsive": True,
        "maintainAspectRatio": False,
        "interaction": {"mode": "nearest", "axis": "xy", "intersect": False},
        "plugins": {"legend": {"display": False}, "tooltip": {"displayColors": False}},
        "scales": {"x": across, "y": upwards},
    }


def uprights(
    label: str,
    marks: Iterable[tuple[datetime, list[str]]],
    y: tuple[float, float],
    *,
    colour: str = GREY,
    dash: tuple[int, ...] = (2, 4),
    width: float = 1,
) -> dict[str, Any]:
    """A dataset of lines from ``y`` to ``y``, each with a mark on top that says what it is."""
    bottom, top = y
    dots: list[dict[str, Any]] = []
    for at, said in marks:
        x = milliseconds(at)
        dots += [{"x": x, "y": bottom}, {"x": x, "y": top, "said": said}, {"x": x, "y": None}]
    return {
        "label": label,
        "data": dots,
        "borderColor": colour,
        "backgroundColor": colour,
        "borderWidth": width,
        "borderDash": list(dash),
        "pointStyle": "rectRot" if dash else "rect",
        "pointRadius": [0, 4, 0] * (len(dots) // 3),
        "pointHitRadius": [0, 8, 0] * (len(dots) // 3),
        "spanGaps": False,
        "clip": False,
        "order": 4,
    }
