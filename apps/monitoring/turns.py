"""Jobs that one worker does at a time, and whether they are still done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum

from django.db import Error as DatabaseFailure
from django.db.models import Q
from django.utils import timezone

from .models import Turn

SAMPLE = "sample"
ROLL_UP = "roll up"
LATE_S = 60.0
"""Six samples missed: no pause of a worker, no slow server."""


class Watch(StrEnum):
    OK = "ok"
    LATE = "late"
    NEVER = "never"


@contextmanager
def turn(job: str, hold_s: float) -> Iterator[bool]:
    """Whether it is ours. Where another has it, for ``hold_s`` at most, it is not: a worker that
    died keeps the others waiting no longer than that."""
    now = timezone.now()
    Turn.objects.get_or_create(job=job)
    free = Q(held_until=None) | Q(held_until__lte=now)
    until = now + timedelta(seconds=hold_s)
    if not Turn.objects.filter(free, job=job).update(held_until=until):
        yield False
        return
    ended_at: datetime | None = None
    try:
        yield True
        ended_at = timezone.now()
    finally:
        done = {"ended_at": ended_at} if ended_at else {}
        Turn.objects.filter(job=job, held_until=until).update(held_until=None, **done)


def last_ended(job: str = SAMPLE) -> datetime | None:
    return Turn.objects.filter(job=job).values_list("ended_at", flat=True).first()


def watch_state() -> Watch:
    """Of the samples; costs one look at one row, and raises nothing of the database's."""
    try:
        ended_at = last_ended()
    except DatabaseFailure:  # as before the first ``migrate``
        return Watch.NEVER
    if ended_at is None:
        return Watch.NEVER
    late = (timezone.now() - ended_at).total_seconds() > LATE_S
    return Watch.LATE if late else Watch.OK
