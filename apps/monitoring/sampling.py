"""One look at everything, kept as samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from celery import current_app
from django.db import transaction
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from .collecting import broker, everything, replicas
from .collecting.rates import Counted, since
from .collecting.taken import Said, Taken
from .metrics import Kind
from .models import Sample, Source

GONE_KEPT = timedelta(days=14)
DIGITS = 6
"""Of a value: more than anyone can mean, and a third of the disk."""


def moment(now: datetime) -> datetime:
    """The whole multiple of ten seconds that a sample of ``now`` is kept under."""
    at_s = math.floor(now.timestamp() / Sample.SAMPLE_S) * Sample.SAMPLE_S
    return datetime.fromtimestamp(at_s, tz=now.tzinfo)


def take(now: datetime | None = None) -> int:
    """Look, and keep what was said. Returns how many sources answered."""
    now = now or timezone.now()
    queues = broker.queues_of(
        current_app, PeriodicTask.objects.values_list("queue", flat=True).distinct()
    )
    sources = {(source.kind, source.address): source for source in Source.objects.all()}
    known = [
        source.address
        for source in sources.values()
        if source.kind == Kind.NODE and source.gone_at is None
    ]
    looked = everything.look(current_app, queues, known)
    answered = 0
    with transaction.atomic():
        for taken in looked.taken:
            source = sources.pop((taken.kind, taken.address), None)
            answered += keep(taken, source, now)
        if looked.all_nodes:
            _left(sources.values(), now)
    return answered


def _left(sources: Iterable[Source], now: datetime) -> None:
    """Those that nobody named any more; the broker's of another address too."""
    for source in sources:
        if source.gone_at is None:
            source.gone_at = now
            source.error = "It is no part of the topology any more."
            source.save(update_fields=["gone_at", "error"])
        elif now - source.gone_at > GONE_KEPT:
            source.delete()


def keep(taken: Taken, source: Source | None, now: datetime) -> bool:
    """Whether it answered. A source of one address is one, whatever runs there."""
    if source is None:
        source = Source(kind=taken.kind, address=taken.address, first_seen_at=now, looked_at=now)
    source.looked_at, source.gone_at, source.error = now, None, taken.error
    if taken.error:
        # What it said last stays, under the time when it said it.
        source.save()
        return False
    before = Counted.of_json(source.counters)
    counted = Counted(taken.run_id, taken.clock_s, taken.said.counters)
    said = taken.said | since(before, counted)
    if taken.kind is Kind.NODE:
        kept = source.replicas if source.role == taken.role else {}
        lag_s = said.values.get("replication_lag_s")
        missed, source.replicas = replicas.missed(kept, taken.replicas, lag_s, taken.clock_s)
        said |= missed
    source.run_id, source.role, source.server = taken.run_id, taken.role, taken.server
    source.answered_at, source.counters = now, counted.as_json()
    source.notes = dict(said.notes)
    source.unknown = {
        name: why for name, why in said.unknown.items() if said.values.get(name) is None
    }
    source.save()
    Sample.objects.bulk_create(
        [Sample(source=source, at=moment(now), values=_rounded(said))], ignore_conflicts=True
    )
    return True


def _rounded(said: Said) -> Mapping[str, float | None]:
    return {name: None if value is None else rounded(value) for name, value in said.values.items()}


def rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
