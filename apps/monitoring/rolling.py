"""Samples become coarser as they grow old, and go in the end.

What is to be done is worked out from the rows that are there: whatever was interrupted is gone on
with, and done twice it comes to the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from .models import Sample, Source
from .sampling import rounded

KEPT = {
    Sample.SAMPLE_S: timedelta(days=2),
    60: timedelta(days=14),
    600: timedelta(days=400),
    # The same, few enough to be read all at once.
    14_400: timedelta(days=400),
}
"""Each resolution, in seconds, and how long its samples are kept."""
COARSER = tuple(resolution_s for resolution_s in KEPT if resolution_s > Sample.SAMPLE_S)
GRACE = timedelta(seconds=2 * Sample.SAMPLE_S)
"""A sample of a moment may be kept this long after it."""
BATCH = 3_000
"""Of the finest, at once: more than one of the coarsest is made of."""
DELETED_AT_ONCE = 1_000
BUDGET_S = 5.0
"""Of one call: samples are taken by the same worker."""


def roll_up(now: datetime, budget_s: float = BUDGET_S) -> int:
    """Make the coarser samples of what is complete by ``now``. Returns how many."""
    until_s = time.monotonic() + budget_s
    made = 0
    for source in Source.objects.all():
        for resolution_s in COARSER:
            while time.monotonic() < until_s:
                number = _batch(source, resolution_s, now)
                made += number
                if not number:
                    break
    return made


def _batch(source: Source, resolution_s: int, now: datetime) -> int:
    """The next few of one source, beginning after the last that is there."""
    length = timedelta(seconds=resolution_s)
    begin = _rolled_until(source, resolution_s)
    end = _start(now - GRACE, resolution_s)
    fine = source.samples.filter(resolution_s=Sample.SAMPLE_S, at__lt=end)
    if begin is not None:
        fine = fine.filter(at__gte=begin)
    rows = list(fine.order_by("at").values_list("at", "values")[:BATCH])
    groups: dict[datetime, list[Mapping[str, float | None]]] = {}
    for at, values in rows:
        groups.setdefault(_start(at, resolution_s), []).append(values)
    if len(rows) == BATCH and len(groups) > 1:
        groups.popitem()  # perhaps cut short; the next batch begins with it
    coarse = [
        Sample(source=source, resolution_s=resolution_s, at=at, values=joined(group))
        for at, group in groups.items()
        if at + length <= end
    ]
    Sample.objects.bulk_create(coarse, ignore_conflicts=True)
    return len(coarse)


def joined(samples: Iterable[Mapping[str, float | None]]) -> dict[str, list[float] | None]:
    """``[lowest, mean, highest]`` of what is known; None of what never was."""
    known: dict[str, list[float]] = {}
    for values in samples:
        for name, value in values.items():
            found = known.setdefault(name, [])
            if value is not None:
                found.append(value)
    return {
        name: [min(found), rounded(sum(found) / len(found)), max(found)] if found else None
        for name, found in known.items()
    }


def forget(now: datetime, budget_s: float = BUDGET_S) -> int:
    """Delete what is older than it is kept. Returns how many. What was not rolled up yet stays."""
    until_s = time.monotonic() + budget_s
    gone = 0
    for source in Source.objects.all():
        rolled = [_rolled_until(source, resolution_s) for resolution_s in COARSER]
        for resolution_s, kept in KEPT.items():
            before = now - kept
            if resolution_s == Sample.SAMPLE_S:
                before = min([before, *(one for one in rolled if one is not None)])
                if None in rolled:
                    continue
            old = source.samples.filter(resolution_s=resolution_s, at__lt=before).order_by("at")
            while time.monotonic() < until_s:
                pks = list(old.values_list("pk", flat=True)[:DELETED_AT_ONCE])
                gone += Sample.objects.filter(pk__in=pks).delete()[0] if pks else 0
                if len(pks) < DELETED_AT_ONCE:
                    break
    return gone


def _rolled_until(source: Source, resolution_s: int) -> datetime | None:
    found = source.samples.filter(resolution_s=resolution_s).order_by("-at")
    last: datetime | None = found.values_list("at", flat=True).first()
    return None if last is None else last + timedelta(seconds=resolution_s)


def _start(at: datetime, resolution_s: int) -> datetime:
    at_s = int(at.timestamp())
    return datetime.fromtimestamp(at_s - at_s % resolution_s, tz=UTC)
