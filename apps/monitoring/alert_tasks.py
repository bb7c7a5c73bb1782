"""What Celery does for alerts, on the queue of the watch: one message a task, so that samples are
taken between two that wait for a slow receiver."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from . import alerting, delivery

SOFT_S, HARD_S = 20, 30


@shared_task(name=delivery.TASK, ignore_result=True, soft_time_limit=SOFT_S, time_limit=HARD_S)
def notify() -> None:
    """Send one message that waits, and hand over to the next."""
    if delivery.deliver_one():
        delivery.hand_over(timezone.now())


@shared_task(name="monitoring.forget_alerts", ignore_result=True)
def forget_alerts(keep_days: int = 400) -> int:
    """Each day. How long is said in the schedule's row, which staff edit."""
    return alerting.forget(timedelta(days=keep_days), timezone.now())
