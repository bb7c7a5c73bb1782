"""Reading what the limiter did over a time, limit by limit and all together.

For pages, of this app and of others. Who sees it may see the limits: ask for
``ratelimits.view_ratelimit`` before.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import QuerySet, Sum
from django.utils import timezone

from . import usage_rolling as rolling
from .engine import get_engine
from .models import LimitRollUp, RolledUp, TotalRollUp
from .models.usage import KEPT, Resolution
from .storage.errors import Unavailable
from .storage.usage import LIMIT_FIELDS, LimitUsage

LimitTotals = LimitUsage
"""Verdicts of one limit over a time, and how long its checks took."""
MOST_ROWS = 2_500
"""Read for one line: a day and a half of minutes, or all of the hours that are kept."""
MOST_STEPS = 100
"""Of each limit, where all limits are asked for: an hour of minutes, four days of hours."""
LATE = timedelta(minutes=5)
"""After so long without a turn, nobody rolls up any more."""


@dataclass(frozen=True, slots=True)
class Point:
    """Of the time that begins at ``at``. ``mean_us`` of a check; None where there was none."""

    at: datetime
    allowed: int
    denied: int
    would_deny: int
    degraded: int
    mean_us: float | None

    @property
    def is_empty(self) -> bool:
        return not (self.allowed or self.denied or self.would_deny)


@dataclass(frozen=True, slots=True)
class Standing:
    """Until when everything is rolled up, and since when. ``is_late``: nobody does it now."""

    began_at: datetime
    read_at: datetime
    is_late: bool


def standing() -> Standing | None:
    """None before the first turn."""
    row = RolledUp.objects.filter(pk=RolledUp.ROW).values_list("began_at", "read_at").first()
    return Standing(*row, timezone.now() - row[1] > LATE) if row else None


def totals(since: datetime, until: datetime) -> dict[int, LimitTotals]:
    """By the limit's id, of those of which there is anything, as far as it is rolled up (a minute
    ago). Over more than MOST_STEPS minutes whole hours, and over more such hours whole days: the
    one that ``since`` is in is in it."""
    return _sums(_of_all(since, until))


def worst(since: datetime, until: datetime, most: int) -> list[tuple[int, LimitTotals]]:
    """The ids of the limits that denied most, with their totals; of the same times as ``totals``.
    Those that denied nothing are left out."""
    rows = _of_all(since, until)
    denied = rows.filter(denied__gt=0).values("limit_id").annotate(number=Sum("denied"))
    numbers = list(denied.order_by("-number", "limit_id").values_list("limit_id", flat=True)[:most])
    found = _sums(rows.filter(limit_id__in=numbers)) if numbers else {}
    return [(number, found[number]) for number in numbers]


def points(limit_id: int | None, since: datetime, until: datetime, most: int = 120) -> list[Point]:
    """One limit over a time, or (None) all requests; ``most`` points at most, of equal lengths
    without a hole. The first and the last may reach over ``since`` and ``until``.

    Read from the finest rows that are kept so long and are not too many, and what is not rolled up
    yet, from Redis, where it answers. Raises ValueError where ``since`` is not before ``until``, or
    ``most`` is not positive.
    """
    span_s = (until - since).total_seconds()
    if span_s <= 0 or most < 1:
        raise ValueError(f"since {since}, until {until}, most {most}: there is no point in it")
    resolution_s = _resolution(since, span_s, MOST_ROWS)
    # One more than fits may be cut at both ends.
    length_s = resolution_s * math.ceil(span_s / max(1, most - 1) / resolution_s)
    first = math.floor(since.timestamp() / length_s)
    last = math.ceil(until.timestamp() / length_s)
    sums = {place: [0] * len(rolling.TOTAL_FIELDS) for place in range(first, last)}
    begin, end = _at(first * length_s), _at(last * length_s)
    for found in (
        _rolled_up(limit_id, resolution_s, begin, end),
        _since_then(limit_id, resolution_s, end),
    ):
        for at, numbers in found:
            own = sums.get(math.floor(at.timestamp() / length_s), [])
            own[:] = map(sum, zip(own, numbers, strict=bool(own)))
    return [_point(_at(place * length_s), numbers) for place, numbers in sums.items()]


Denials = dict[datetime, tuple[int, int]]


def denials(limits: Collection[int], since: datetime, until: datetime) -> dict[int, Denials]:
    """Of each limit, by hour, what it denied and would have denied; an hour without either is left
    out. One query for all of them."""
    rows = LimitRollUp.objects.filter(
        limit_id__in=limits,
        resolution_s=Resolution.HOUR,
        at__gt=since - timedelta(hours=1),
        at__lt=until,
    ).exclude(denied=0, would_deny=0)
    found: dict[int, Denials] = {}
    for number, at, *both in rows.values_list("limit_id", "at", "denied", "would_deny"):
        found.setdefault(number, {})[at] = (both[0], both[1])
    return found


def who_denied(since: datetime) -> QuerySet[LimitRollUp, int]:
    """The ids of the limits that have denied something, to be asked for in another query."""
    span_s = (timezone.now() - since).total_seconds()
    resolution_s = _resolution(since, span_s, MOST_STEPS)
    rows = LimitRollUp.objects.filter(
        resolution_s=resolution_s, at__gte=rolling.start(since, resolution_s), denied__gt=0
    )
    return rows.values_list("limit_id", flat=True)


def _of_all(since: datetime, until: datetime) -> QuerySet[LimitRollUp]:
    resolution_s = _resolution(since, (until - since).total_seconds(), MOST_STEPS)
    return LimitRollUp.objects.filter(
        resolution_s=resolution_s, at__gte=rolling.start(since, resolution_s), at__lt=until
    )


def _sums(rows: QuerySet[LimitRollUp]) -> dict[int, LimitTotals]:
    sums: Any = rows.values_list("limit_id").annotate(*map(Sum, LIMIT_FIELDS))
    return {number: LimitTotals(*numbers) for number, *numbers in sums}


def _resolution(since: datetime, span_s: float, most: int) -> int:
    """The finest that is kept so long, and makes ``most`` rows of a limit at most; in seconds."""
    age = timezone.now() - since
    for resolution, kept in KEPT.items():
        if age <= kept and span_s / resolution <= most:
            return int(resolution)
    return int(Resolution.DAY)


def _rolled_up(
    limit_id: int | None, resolution_s: int, begin: datetime, end: datetime
) -> Iterator[tuple[datetime, Sequence[int]]]:
    times = {"resolution_s": resolution_s, "at__gte": begin, "at__lt": end}
    rows: Any
    if limit_id is None:
        rows = TotalRollUp.objects.filter(**times).values_list("at", *rolling.TOTAL_FIELDS)
    else:
        rows = LimitRollUp.objects.filter(limit_id=limit_id, **times)
        rows = rows.values_list("at", *LIMIT_FIELDS)
    for at, *numbers in rows:
        yield at, numbers if limit_id is None else _padded(numbers)


def _since_then(
    limit_id: int | None, resolution_s: int, end: datetime
) -> Iterator[tuple[datetime, Sequence[int]]]:
    """What came since the last turn; nothing where Redis does not answer."""
    row = RolledUp.objects.filter(pk=RolledUp.ROW).first()
    if row is not None and end <= row.read_at:
        return
    store = get_engine().usage
    try:
        usage = store.read() if limit_id is None else store.read_limit(limit_id)
    except Unavailable as error:
        get_engine().limiter.failures.note(error)
        return
    now = timezone.now()
    found = rolling.came(row, usage, now)
    if found is None:
        return
    if limit_id is None:
        numbers = rolling.totals_of(found.usage)
    else:
        own = found.usage.limits.get(limit_id, LimitUsage())
        numbers = _padded(rolling.numbers_of(own))
    for slot in rolling.slots(found.since, now, resolution_s):
        yield slot.at, [slot.share(number) for number in numbers]


def _padded(numbers: Sequence[int]) -> list[int]:
    """A limit's as those of all requests: each verdict is a check; requests, errors are none."""
    return [*numbers, 0, 0, sum(numbers[:3])]


def _point(at: datetime, numbers: Sequence[int]) -> Point:
    allowed, denied, would_deny, degraded, sum_us, _, _, checks = numbers
    mean_us = sum_us / checks if checks else None
    return Point(at, allowed, denied, would_deny, degraded, mean_us)


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
