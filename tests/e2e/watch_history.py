"""A week of the watch for the health page, put into the demo's database: ``python -m`` with its
environment. A primary fills up, a replica is lost, one server may not be asked."""

from __future__ import annotations

import django

django.setup()

from datetime import timedelta  # noqa: E402

from django.utils import timezone  # noqa: E402

from apps.monitoring.models import Source  # noqa: E402
from apps.monitoring.tests import watching  # noqa: E402
from apps.ratelimits.models import RateLimit  # noqa: E402

FULL = {**watching.NODE, "memory_percent": 93.0, "memory_bytes": 1_996_000_000.0}
LOSING = {**watching.NODE, "replication_lag_s": 42.0, "replicas_lost": 1.0}
REPLICA = {**watching.NODE, "replication_lag_s": 0.0, "cpu_percent": 3.1, "ops_per_s": 1_402.0}
WHY = "INFO: User iota has no permissions to run the 'info' command"
HIDDEN = dict.fromkeys(watching.NODE) | {"round_trip_us": 212.0}
LONG = "counters-primary-2.redis.eu-west-1.production.internal.example.com:6379"


def main() -> None:
    Source.objects.all().delete()
    of_memory = {"memory_percent": "of maxmemory, 2 GiB, policy noeviction"}
    for address, values, parts in (
        ("10.0.0.1:6379", FULL, {"notes": of_memory}),
        (LONG, LOSING, {}),
        ("10.0.0.3:6379", REPLICA, {"role": "replica"}),
        ("10.0.0.4:6379", HIDDEN, {"unknown": dict.fromkeys(watching.NODE, WHY), "role": ""}),
    ):
        made = watching.source("node", address, **parts)
        watching.sample(made, values, 400)
        watching.coarse(made, values, 60, 1_440)
        watching.coarse(made, values, 600, 1_008)
    now = timezone.now()
    an_hour = now - timedelta(hours=1)
    watching.source("node", "10.0.0.5:6379", gone_at=an_hour, answered_at=an_hour)
    error = "TimeoutError: Timeout reading from 10.0.0.6:6379"
    watching.source("node", "10.0.0.6:6379", error=error, answered_at=an_hour, role="replica")
    watching.sample(watching.source("limiter", ""), watching.LIMITER, 400)
    queues = {"queue_length": "celery 2, benchmarks 0, monitoring 1"}
    watching.sample(watching.source("broker", "10.0.1.1:6379", notes=queues), watching.QUEUES, 400)
    watching.looked()
    limit = RateLimit.objects.first()
    if limit is not None:
        limit.save()


main()
