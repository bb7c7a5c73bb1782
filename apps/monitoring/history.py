"""Reading samples: the newest of a source, and one metric over a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models.fields.json import KeyTransform
from django.utils import timezone

from .metrics import METRICS
from .models import Sample, Source
from .rolling import KEPT

MOST_ROWS = 2_500
"""Read for one line: a day of minutes, two weeks of ten minutes."""
FEW = 2
"""More figures of a row are taken from the whole of it."""
Three = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Reading:
    """A sample as taken. A name of ``values`` that is None is unknown, and ``unknown`` says why."""

    at: datetime
    values: Mapping[str, float | None]
    unknown: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Point:
    """Of the time that begins at ``at``; all None where nothing is known of it."""

    at: datetime
    low: float | None
    mean: float | None
    high: float | None


def latest(source: Source) -> Reading | None:
    """The newest sample, however old; None where there is none."""
    found = source.samples.filter(resolution_s=Sample.SAMPLE_S).order_by("-at").first()
    return Reading(found.at, found.values, source.unknown) if found else None


def points(
    source: Source, metric: str, since: datetime, until: datetime, most: int = 300
) -> list[Point]:
    """One metric over a time, as ``most`` points at most, of equal lengths without a hole.

    Read from the finest samples that are kept so long and are not too many; what is not rolled up
    yet, from those as taken. Raises KeyError where there is no such metric, ValueError where
    ``since`` is not before ``until`` or ``most`` is not positive.
    """
    return lines(source, [metric], since, until, most)[metric]


def lines(
    source: Source, metrics: Sequence[str], since: datetime, until: datetime, most: int = 300
) -> dict[str, list[Point]]:
    """``points`` of several metrics, whose points are of the same times."""
    names = [METRICS[metric].name for metric in metrics]
    span_s = (until - since).total_seconds()
    if span_s <= 0 or most < 1:
        raise ValueError(f"since {since}, until {until}, most {most}: there is no point in it")
    resolution_s = _resolution(since, span_s)
    # One more than fits may be cut at both ends.
    length_s = resolution_s * math.ceil(span_s / max(1, most - 1) / resolution_s)
    first = math.floor(since.timestamp() / length_s)
    last = math.ceil(until.timestamp() / length_s)
    begin = _at(first * length_s)
    known: dict[str, dict[int, list[Three]]] = {name: {} for name in names}
    for at, values in _rows(source, names, resolution_s, begin, until):
        place = math.floor(at.timestamp() / length_s)
        for name, value in zip(names, values, strict=True):
            if value is not None:
                known[name].setdefault(place, []).append(_three(value))
    return {
        name: [_point(_at(place * length_s), groups.get(place, ())) for place in range(first, last)]
        for name, groups in known.items()
    }


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)


def _resolution(since: datetime, span_s: float) -> int:
    """In seconds."""
    age = timezone.now() - since
    for resolution_s, kept in KEPT.items():
        if age <= kept and span_s / resolution_s <= MOST_ROWS:
            return resolution_s
    return max(KEPT)


def _rows(
    source: Source, names: Sequence[str], resolution_s: int, begin: datetime, end: datetime
) -> Iterator[tuple[datetime, Sequence[Any]]]:
    """Coarse ones, and as taken what came after the last of them."""
    newest = begin
    for at, values in _values(source, names, resolution_s, begin, end):
        newest = at + timedelta(seconds=resolution_s)
        yield at, values
    if resolution_s == Sample.SAMPLE_S:
        return
    # Rolled up within minutes; where nobody does it, all of it would be too much to read.
    newest = max(newest, end - timedelta(seconds=2 * resolution_s + 600))
    yield from _values(source, names, Sample.SAMPLE_S, newest, end)


def _values(
    source: Source, names: Sequence[str], resolution_s: int, begin: datetime, end: datetime
) -> Iterator[tuple[datetime, Sequence[Any]]]:
    rows = source.samples.filter(resolution_s=resolution_s, at__gte=begin, at__lt=end)
    if len(names) > FEW:
        for at, values in rows.order_by("at").values_list("at", "values"):
            yield at, [values.get(name) for name in names]
        return
    # Of each row a few figures; the rest of it stays in the database.
    parts = [KeyTransform(name, "values") for name in names]
    for at, *values in rows.order_by("at").values_list("at", *parts):
        yield at, values


def _three(value: Any) -> Three:
    """Low, mean and high."""
    if isinstance(value, (int, float)):
        return (value, value, value)
    low, mean, high = value
    return (low, mean, high)


def _point(at: datetime, known: Iterable[Three]) -> Point:
    rows = list(known)
    if not rows:
        return Point(at, None, None, None)
    lows, means, highs = zip(*rows, strict=True)
    return Point(at, min(lows), sum(means) / len(means), max(highs))
