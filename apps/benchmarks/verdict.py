"""A series in a sentence: did it get slower, since when, by how much, and is that sure?"""

from __future__ import annotations

from dataclasses import dataclass

from . import regression as rule
from .models import Regression
from .series import Point, Series, badness, change, is_worse


@dataclass(frozen=True, slots=True)
class Told:
    """A verdict in words. ``level``: bad, suspect, good, fine or unknown."""

    level: str
    text: str
    detail: str = ""


def verdict(series: Series) -> Told:
    if not series.points:
        return Told("unknown", "No run in this period.")
    for regression in series.open:
        return _of_regression(regression, series)
    if series.metric.ignored:
        return Told("unknown", "Measured and shown, never judged: the metric is ignored.")
    since = series.accepted.since if series.accepted else None
    for place in reversed(series.change_points):
        point = series.points[place]
        if since is None or point.at > since:
            before, after = series.levels(place)
            said = f"{change(after, before, series.metric)} since {name_of(point)}, not confirmed"
            level = "suspect" if is_worse(after, before, series.metric) else "good"
            return Told(level, f"{said}.", "The level changed there; no rerun has tested it.")
        break
    return _of_newest(series)


def _of_regression(regression: Regression, series: Series) -> Told:
    evidence = regression.evidence
    new, old = evidence.get("new_median"), evidence.get("baseline_median")
    how = change(new, old, series.metric) if new is not None and old else _by_ratio(regression)
    point = next((one for one in series.points if one.run == regression.run_id), None)
    since = name_of(point) if point else f"{regression.opened_at:%Y-%m-%d}"
    state = {
        Regression.State.SUSPECTED: "suspected, not confirmed",
        Regression.State.CONFIRMED: "confirmed",
        Regression.State.ACKNOWLEDGED: "confirmed, and acknowledged",
    }[Regression.State(regression.state)]
    level = "good" if regression.better else "suspect"
    if not regression.better and regression.state != Regression.State.SUSPECTED:
        level = "bad"
    return Told(level, f"{how} since {since}, {state}.")


def _by_ratio(regression: Regression) -> str:
    return f"{badness(regression):.2f} times as {'good' if regression.better else 'bad'}"


def _of_newest(series: Series) -> Told:
    newest = series.points[-1]
    number = len(series.baseline)
    if series.band is None:
        return Told("unknown", f"Insufficient data: {number} of {rule.LEAST} runs to compare with.")
    how = change(newest.median, series.band.median, series.metric)
    if series.band.low <= newest.median <= series.band.high:
        return Told("fine", f"Steady: the newest run is {how} against the last {number} runs.")
    level = "suspect" if is_worse(newest.median, series.band.median, series.metric) else "good"
    return Told(
        level,
        f"The newest run, {name_of(newest)}, is {how} against the last {number} runs, "
        "not confirmed.",
    )


def name_of(point: Point) -> str:
    return point.commit[:7] if point.commit else f"run {point.run}"
