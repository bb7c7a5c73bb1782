"""What Celery does for the limiter."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from . import clean_up, previewing, usage_rolling
from .engine import get_engine
from .models import SweepRun
from .storage.errors import Unavailable
from .storage.sweep import RATE_PER_S


@shared_task(name="ratelimits.reconcile_ruleset", ignore_result=True)
def reconcile_ruleset() -> bool:
    """Publish limits whose publication was lost to a crash or to Redis being away."""
    try:
        return get_engine().reconcile()
    except Unavailable:
        return False


@shared_task(name="ratelimits.sweep", ignore_result=True)
def sweep(
    budget_s: float = 10.0,
    rate_per_s: float = RATE_PER_S,
    every_s: float = 3_600.0,
    dry_run: bool = False,
    trigger: str = SweepRun.Trigger.SCHEDULE,
    requested_by: int | None = None,
) -> bool:
    """Sweep for so long, and go on at the next turn: no worker is kept from other tasks for more
    than ``budget_s``. A new pass begins once the last one began ``every_s`` ago; staff do not
    wait. Whether there was anything to do, and nobody doing it."""
    if trigger == SweepRun.Trigger.SCHEDULE and not clean_up.is_due(every_s):
        return False
    try:
        clean_up.sweep(
            trigger,
            budget_s=budget_s,
            rate_per_s=rate_per_s,
            dry_run=dry_run,
            requested_by=requested_by,
        )
    except clean_up.Busy:
        return False
    return True


@shared_task(name="ratelimits.roll_up_usage", ignore_result=True)
def roll_up_usage() -> int:
    """Add what the limiter did since the last turn to minutes, hours and days, and delete what is
    older than it is kept. How many rows were written; where Redis is away, the next turn's."""
    try:
        written = usage_rolling.roll_up(get_engine().usage, timezone.now())
    except Unavailable:
        written = 0
    usage_rolling.forget(timezone.now())
    return written


@shared_task(name="ratelimits.preview", ignore_result=True)
def preview(run: int) -> bool:
    """Try a draft on the record; ``run`` is a PreviewRun's number. Whether it still waited."""
    return previewing.carry_out(run)
