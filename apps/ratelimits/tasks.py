"""What Celery does for the limiter."""

from __future__ import annotations

from celery import shared_task

from .engine import get_engine
from .storage.errors import Unavailable


@shared_task(name="ratelimits.reconcile_ruleset", ignore_result=True)
def reconcile_ruleset() -> bool:
    """Publish limits whose publication was lost to a crash or to Redis being away."""
    try:
        return get_engine().reconcile()
    except Unavailable:
        return False
