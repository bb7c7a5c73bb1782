"""Histories of runs for tests of what is made of them; without measuring anything."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from apps.benchmarks.models import BenchmarkRun, Machine, Measurement, Metric

STEP = timedelta(hours=1)


def machine(name: str = "here", **fields: Any) -> Machine:
    fields = {"cpu": "A CPU", "cores": 2, **fields}
    return Machine.objects.get_or_create(fingerprint=name, defaults={"fields": fields})[0]


def metric(benchmark: str = "check", **changes: Any) -> Metric:
    values = {
        "suite": "ours",
        "benchmark": benchmark,
        "metric": "time",
        "unit": "us",
        "direction": "lower",
        **changes,
    }
    return Metric.objects.get_or_create(digest=benchmark[-32:], defaults=values)[0]


def runs(number: int, *, end: datetime | None = None, **changes: Any) -> list[BenchmarkRun]:
    """Done, an hour apart, the last of them an hour before ``end``; each of its own commit."""
    end = end or timezone.now()
    values = {
        "state": "done",
        "trigger": "schedule",
        "set_name": "quick",
        "branch": "main",
        "machine": changes.pop("machine", None) or machine(),
        "load_average": 0.25,
        "loop_us": 1234.5,
        "ping_us": 21.5,
        **changes,
    }
    made = [
        BenchmarkRun(
            **{
                "commit": f"{number - place:07x}" + "0" * 33,
                "queued_at": end - place * STEP,
                "started_at": end - place * STEP,
                "ended_at": end - place * STEP + timedelta(minutes=5),
                "judged_at": end - place * STEP + timedelta(minutes=5),
                **values,
            }
        )
        for place in range(number, 0, -1)
    ]
    return BenchmarkRun.objects.bulk_create(made)


def measure(of: Metric, during: Sequence[BenchmarkRun], medians: Sequence[float]) -> None:
    Measurement.objects.bulk_create(
        [
            Measurement(
                run=run,
                metric=of,
                machine=run.machine,
                branch=run.branch,
                taken_at=run.started_at or run.queued_at,
                n=5,
                minimum=median * 0.9,
                p50=median,
                p95=median * 1.2,
                p99=median * 1.3,
                maximum=median * 1.4,
                mean=median,
                deviation=median / 20,
                mad=median / 50,
                samples=[median * part for part in (0.9, 0.98, 1.0, 1.02, 1.4)],
            )
            for run, median in zip(during, medians, strict=True)
        ]
    )


def noisy(number: int, level: float = 100.0) -> list[float]:
    """The same each time: within 3 % of the level, no two neighbours alike."""
    return [level * (1 + ((place * 37) % 61 - 30) / 1000) for place in range(number)]
