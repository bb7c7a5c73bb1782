"""Sources and samples for tests of pages: a primary that is nearly full, a replica that lags, one
that may not be asked, the limiter and the queues."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

from django.utils import timezone

from apps.monitoring.models import Sample, Source, Turn
from apps.monitoring.rolling import joined
from apps.monitoring.sampling import moment, rounded

NODE = {
    "round_trip_us": 180.0,
    "cpu_percent": 23.4,
    "memory_bytes": 1_503_238_553.0,
    "memory_percent": 70.0,
    "evicted_per_s": 0.0,
    "expired_per_s": 12.0,
    "ops_per_s": 12_345.0,
    "command_us": 14.0,
    "command_p99_us": 61.0,
    "keys": 1_234_567.0,
    "clients": 412.0,
    "clients_percent": 4.12,
    "slow_per_s": 0.0,
    "rejected_per_s": 0.0,
}
LIMITER = {
    "requests_per_s": 812.0,
    "requests": 8_120.0,
    "error_percent": 0.02,
    "checks": 8_100.0,
    "check_p50_us": 190.0,
    "check_p99_us": 870.0,
    "allowed_per_s": 801.0,
    "denied_per_s": 9.5,
    "degraded_per_s": 0.0,
    "processes": 4.0,
    "processes_failing": 0.0,
    "config_load_us": 21_000.0,
    "pool_in_use": 3.0,
    "pool_waits_per_s": 0.0,
    "queue_length": 2.0,
}
QUEUES = {"queue_length": 3.0, "unacked": 1.0}


def source(kind: str = "node", address: str = "10.0.0.1:6379", **parts: object) -> Source:
    now = timezone.now()
    whole = {
        "first_seen_at": now,
        "looked_at": now,
        "answered_at": now,
        "role": "primary" if kind == "node" else "",
        "server": "Valkey 9.1.2" if kind == "node" else "",
        **parts,
    }
    return Source.objects.create(kind=kind, address=address, **whole)


def sample(
    of: Source, values: Mapping[str, float | None], number: int = 1, *, wave: float = 0.2
) -> None:
    """The newest is of now, and before it one every ten seconds."""
    last = moment(timezone.now())
    Sample.objects.bulk_create(
        [
            Sample(source=of, at=last - timedelta(seconds=10 * n), values=_waved(values, n, wave))
            for n in range(number)
        ],
        batch_size=5_000,
    )


def coarse(of: Source, values: Mapping[str, float | None], resolution_s: int, number: int) -> None:
    """As they were rolled up: ``number`` of them until now."""
    now_s = int(timezone.now().timestamp()) // resolution_s * resolution_s
    rows = []
    for n in range(1, number + 1):
        some = [_waved(values, 7 * n + part, 0.2) for part in range(3)]
        at = datetime.fromtimestamp(now_s - resolution_s * n, tz=timezone.get_current_timezone())
        rows.append(Sample(source=of, at=at, resolution_s=resolution_s, values=joined(some)))
    Sample.objects.bulk_create(rows, batch_size=5_000)


def _waved(values: Mapping[str, float | None], n: int, wave: float) -> dict[str, float | None]:
    times = 1.0 if n == 0 else 1.0 - wave * (0.5 + math.sin(n / 17) / 2)
    return {
        name: None if value is None else rounded(value * times) for name, value in values.items()
    }


def looked(seconds_ago: float = 0.0) -> None:
    ended_at = timezone.now() - timedelta(seconds=seconds_ago)
    Turn.objects.update_or_create(job="sample", defaults={"ended_at": ended_at})
