"""Old runs go, so that the history stays of a size that pages and disks can bear."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.utils import timezone

from .models import BenchmarkRun, Regression

BATCH = 100
MOST_AT_ONCE = 2_000
"""A first clean-up of years is spread over several days."""


def forget_old_runs(keep_days: int, keep_runs: int) -> int:
    """Deletes what ended more than ``keep_days`` ago or is not among the newest ``keep_runs``.

    Kept in any case: what waits or runs, and what an open regression is about. Returns how many.
    Raises ValueError where nothing would be kept.
    """
    if keep_days < 1 or keep_runs < 1:
        raise ValueError(f"keep_days={keep_days}, keep_runs={keep_runs}: keep 1 or more of each")
    ended = BenchmarkRun.objects.exclude(
        state__in=(BenchmarkRun.State.QUEUED, BenchmarkRun.State.RUNNING)
    )
    too_old = models.Q(queued_at__lt=timezone.now() - timedelta(days=keep_days))
    oldest_kept = ended.order_by("-queued_at").values_list("queued_at", flat=True)
    first = next(iter(oldest_kept[keep_runs - 1 : keep_runs]), None)
    if first is not None:
        too_old |= models.Q(queued_at__lt=first)
    open_ = Regression.objects.filter(state__in=Regression.OPEN, run__isnull=False)
    going = ended.filter(too_old).exclude(pk__in=open_.values("run"))
    pks = list(going.order_by("queued_at").values_list("pk", flat=True)[:MOST_AT_ONCE])
    for start in range(0, len(pks), BATCH):
        BenchmarkRun.objects.filter(pk__in=pks[start : start + BATCH]).delete()
    return len(pks)
