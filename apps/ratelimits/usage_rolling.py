"""Rolling up: what came since the last turn is added to the minute, the hour and the day in which
it came, and what is older than it is kept goes.

What came between two readings is spread evenly over the time between them: a turn that is a minute
late changes nothing, and after hours without a worker the sums are right and the times coarser.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db import router, transaction
from django.db.models import F

from .models import LimitRollUp, RateLimit, RolledUp, TotalRollUp
from .models.usage import KEPT, Resolution
from .storage.usage import LIMIT_FIELDS, TOTALS, LimitUsage, Usage, UsageStore

MOST_SLOTS = 60
"""Rows of a limit and resolution that one turn writes: after a longer pause every second minute, or
every tenth, holds what came in so many."""
FIRST_WITHIN = timedelta(hours=1)
"""Of totals that began longer before the first turn, nobody knows when they came."""
ROWS_AT_ONCE = 500
DELETED_AT_ONCE = 1_000
BUDGET_S = 5.0
"""For deleting, each turn: a year's rows are not made to go within a minute."""

TOTAL_FIELDS = (*LIMIT_FIELDS, "requests", "errors", "checks")
MICROSECOND = timedelta(microseconds=1)


class Slot(NamedTuple):
    """``at`` of a row, and which part of the whole time it gets: from ``begin`` to ``end`` of
    ``of``, us."""

    at: datetime
    begin: int
    end: int
    of: int

    def share(self, number: int) -> int:
        """Of all slots together exactly ``number``."""
        return number * self.end // self.of - number * self.begin // self.of


class Came(NamedTuple):
    """What came since, and when that was."""

    since: datetime
    usage: Usage


def roll_up(store: UsageStore, now: datetime) -> int:
    """One turn: how many rows it wrote. Raises Unavailable; the next turn catches up.

    Two at once never count twice: whoever comes second finds the turn taken, and does nothing.
    """
    before = RolledUp.objects.filter(pk=RolledUp.ROW).first()
    usage = store.read()
    using = router.db_for_write(RolledUp)
    # Asked after the reading, of the database that is written to: a limit may be new.
    living = set(RateLimit.objects.using(using).values_list("pk", flat=True))
    with transaction.atomic(using=using):
        if not _take(before, usage, now):
            return 0
        found = came(before, usage, now)
        return _write(found, living, now) if found else 0


def came(before: RolledUp | None, usage: Usage, now: datetime) -> Came | None:
    """Since the reading ``before``; None where nobody can say when it came."""
    began = datetime.fromtimestamp(usage.since_s, UTC)
    if before is None:
        return Came(began, usage) if now - began <= FIRST_WITHIN else None
    known = decode(before.counted)
    begin = before.read_at if known.since_s == usage.since_s else max(before.read_at, began)
    return Came(begin, usage.since(known))


def _take(before: RolledUp | None, usage: Usage, now: datetime) -> bool:
    """Make this reading the last; False where another did it meanwhile."""
    known = set(decode(before.counted).limits) if before else set()
    counted = encode(usage, known)
    if before is None:
        began = datetime.fromtimestamp(usage.since_s, UTC)
        began_at = began if now - began <= FIRST_WITHIN else now
        _, made = RolledUp.objects.get_or_create(
            pk=RolledUp.ROW,
            defaults={"began_at": min(began_at, now), "read_at": now, "counted": counted},
        )
        return made
    # A clock that went back: what comes next came after what is known.
    rows = RolledUp.objects.filter(pk=before.pk, turn=before.turn)
    return bool(rows.update(turn=F("turn") + 1, read_at=now, counted=counted))


def encode(usage: Usage, known: Iterable[int] = ()) -> dict[str, Any]:
    """As JSON. Limits that were ``known`` before stay, with nothing: they may still have rows."""
    own = {"since_s": usage.since_s, **{name: getattr(usage, name) for name in TOTALS}}
    limits = {number: LimitUsage() for number in known} | dict(usage.limits)
    return {
        "usage": {**own, "checks": list(usage.checks)},
        "limits": {str(number): numbers_of(one) for number, one in sorted(limits.items())},
    }


def decode(counted: Mapping[str, Any]) -> Usage:
    usage = counted["usage"]
    return Usage(
        **{**usage, "checks": tuple(usage["checks"])},
        limits={int(number): LimitUsage(*parts) for number, parts in counted["limits"].items()},
    )


def numbers_of(usage: LimitUsage) -> list[int]:
    """In the order of LIMIT_FIELDS."""
    return [getattr(usage, name) for name in LIMIT_FIELDS]


def totals_of(usage: Usage) -> list[int]:
    """In the order of TOTAL_FIELDS."""
    would_deny = sum(one.would_deny for one in usage.limits.values())
    parts = (usage.allowed, usage.denied, would_deny, usage.degraded, usage.checks_sum_us)
    return [*parts, usage.requests, usage.errors, sum(usage.checks)]


def slots(begin: datetime, end: datetime, resolution_s: int) -> list[Slot]:
    """The rows of that resolution that the time touches, MOST_SLOTS and one at most."""
    if begin >= end:
        return [Slot(start(end, resolution_s), 0, 1, 1)]
    of = (end - begin) // MICROSECOND
    step = resolution_s * math.ceil((end - begin).total_seconds() / resolution_s / MOST_SLOTS)
    edges = [begin]
    while (edge := start(edges[-1], step) + timedelta(seconds=step)) < end:
        edges.append(edge)
    ends = [*edges[1:], end]
    return [
        Slot(start(first, resolution_s), (first - begin) // MICROSECOND,
             (last - begin) // MICROSECOND, of)
        for first, last in zip(edges, ends, strict=True)
    ]  # fmt: skip


def start(at: datetime, length_s: int) -> datetime:
    at_s = math.floor(at.timestamp())
    return datetime.fromtimestamp(at_s - at_s % length_s, UTC)


def _write(found: Came, living: set[int], now: datetime) -> int:
    limits = {
        number: numbers_of(usage)
        for number, usage in found.usage.limits.items()
        if number in living and usage != LimitUsage()
    }
    written = 0
    for resolution in Resolution:
        parts = slots(found.since, now, resolution)
        written += _add(
            LimitRollUp,
            resolution,
            LIMIT_FIELDS,
            {
                (slot.at, number): [slot.share(one) for one in numbers]
                for number, numbers in limits.items()
                for slot in parts
            },
        )
        sums = totals_of(found.usage)
        totals = {(slot.at, 0): [slot.share(one) for one in sums] for slot in parts}
        written += _add(TotalRollUp, resolution, TOTAL_FIELDS, totals)
    return written


def _add(
    model: Any,
    resolution: Resolution,
    fields: Sequence[str],
    new: Mapping[tuple[datetime, int], list[int]],
) -> int:
    """By time and limit. Nobody else writes: the turn is ours until the transaction ends."""
    new = {key: numbers for key, numbers in new.items() if any(numbers)}
    key_fields = ("at", "limit_id") if model is LimitRollUp else ("at",)
    times = {at for at, _ in new}
    there = {
        (at, *rest)[: len(key_fields)]: numbers
        for at, *rest, numbers in _there(model, resolution, times, key_fields, fields)
    }
    rows = []
    for key, numbers in new.items():
        own = key[: len(key_fields)]
        sums = map(sum, zip(numbers, there.get(own, [0] * len(fields)), strict=True))
        named = dict(zip((*key_fields, *fields), (*own, *sums), strict=True))
        rows.append(model(resolution_s=resolution, **named))
    model.objects.bulk_create(
        rows,
        batch_size=ROWS_AT_ONCE,
        update_conflicts=True,
        unique_fields=["resolution_s", *key_fields],
        update_fields=list(fields),
    )
    return len(rows)


def _there(
    model: Any, resolution: int, times: set[datetime], keys: Sequence[str], fields: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    rows = model.objects.filter(resolution_s=resolution, at__in=times)
    for row in rows.values_list(*keys, *fields):
        yield (*row[: len(keys)], row[len(keys) :])


def forget(now: datetime, budget_s: float = BUDGET_S) -> int:
    """Delete what is older than it is kept, and what deleted limits have left. How many rows."""
    until_s = time.monotonic() + budget_s
    gone = 0
    for model in (LimitRollUp, TotalRollUp):
        for resolution, kept in KEPT.items():
            old = model.objects.filter(resolution_s=resolution, at__lt=now - kept)
            gone += _delete(old.order_by("at"), until_s)
    return gone + _forget_limits(until_s)


def _forget_limits(until_s: float) -> int:
    """Of those that were counted once, and are no more."""
    row = RolledUp.objects.filter(pk=RolledUp.ROW).first()
    if row is None:
        return 0
    using = router.db_for_write(RateLimit)
    living = set(RateLimit.objects.using(using).values_list("pk", flat=True))
    counted = decode(row.counted)
    gone = set(counted.limits) - living
    if not gone:
        return 0
    deleted = _delete(LimitRollUp.objects.filter(limit_id__in=gone), until_s)
    left = set(LimitRollUp.objects.filter(limit_id__in=gone).values_list("limit_id", flat=True))
    kept = {number: one for number, one in counted.limits.items() if number not in gone - left}
    # Where a turn came meanwhile, the next one does it.
    rows = RolledUp.objects.filter(pk=row.pk, turn=row.turn)
    rows.update(turn=F("turn") + 1, counted=encode(replace(counted, limits=kept)))
    return deleted


def _delete(rows: Any, until_s: float) -> int:
    gone = 0
    while time.monotonic() < until_s:
        pks = list(rows.values_list("pk", flat=True)[:DELETED_AT_ONCE])
        if pks:
            gone += rows.model.objects.filter(pk__in=pks).delete()[0]
        if len(pks) < DELETED_AT_ONCE:
            break
    return gone
