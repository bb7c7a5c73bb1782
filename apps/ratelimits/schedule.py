"""What has to be done from time to time, for the settings of a site::

    CELERY_BEAT_SCHEDULE = {**BEAT_SCHEDULE, ...}

The names are those of the rows that ``migrate`` makes where django-celery-beat is installed, so
that nothing is done twice there. Without Celery: ``manage.py ratelimit upkeep``.
"""

from __future__ import annotations

from typing import Any

from celery.schedules import crontab

BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    # Publishes what a crash, or Redis being away, has kept from being published.
    "ratelimits-reconcile-ruleset": {"task": "ratelimits.reconcile_ruleset", "schedule": 10.0},
    # Adds usage to minutes, hours and days.
    "Rate limits: roll up usage, every minute": {
        "task": "ratelimits.roll_up_usage",
        "schedule": crontab(),
        "options": {"expires": 50},
    },
    # Removes from Redis what deleted limits have left.
    "Rate limits: clean up, every 5 minutes": {
        "task": "ratelimits.sweep",
        "schedule": crontab(minute="*/5"),
        "kwargs": {"budget_s": 10, "rate_per_s": 10_000, "every_s": 3_600},
        "options": {"expires": 240},
    },
}
