"""What Celery does for the watch, by a worker of its own, so that nothing keeps it waiting:
``celery --app iota worker --queues monitoring --concurrency 1``."""

from __future__ import annotations

import logging

from celery import shared_task
from django.utils import timezone

from . import alerting, rolling, sampling, turns

logger = logging.getLogger(__name__)

QUEUE = "monitoring"
SOFT_S, HARD_S = 20, 30
"""A look ends by itself within seven seconds; the rest is the database's and the alerts'."""


@shared_task(
    name="monitoring.sample", ignore_result=True, soft_time_limit=SOFT_S, time_limit=HARD_S
)
def sample() -> None:
    """Every ten seconds. Where the one before is not done, this one is dropped."""
    with turns.turn(turns.SAMPLE, HARD_S) as ours:
        if not ours:
            logger.warning("The samples before are still being taken: these are left out")
            return
        now = timezone.now()
        sampling.take(now)
        try:
            alerting.evaluate_all(now)
        except Exception:
            # The samples are kept, and the watch goes on: the next round evaluates again.
            logger.exception("The alert rules were not evaluated")


@shared_task(
    name="monitoring.roll_up", ignore_result=True, soft_time_limit=SOFT_S, time_limit=HARD_S
)
def roll_up() -> None:
    """Each minute: samples become coarser, and old ones go."""
    with turns.turn(turns.ROLL_UP, HARD_S) as ours:
        if ours:
            rolling.roll_up(timezone.now())
            rolling.forget(timezone.now())
