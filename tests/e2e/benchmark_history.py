"""A history for the benchmarks' pages, put into the demo's database: ``python -m`` with its
environment. A metric became a quarter slower, another steadily faster, a third is new."""

from __future__ import annotations

import django

django.setup()

from datetime import timedelta  # noqa: E402

from django.utils import timezone  # noqa: E402

from apps.benchmarks.models import (  # noqa: E402
    Annotation,
    Baseline,
    BenchmarkRun,
    Machine,
    Metric,
    Regression,
)
from apps.benchmarks.tests import history  # noqa: E402

SLOWER_AT = 50
RUNS = 60


def main() -> None:
    for old in (Regression, Baseline, Annotation, BenchmarkRun, Metric, Machine):
        old.objects.all().delete()
    end = timezone.now()
    runs = history.runs(RUNS, end=end)
    check = history.metric("check", contestant="ours", parameters={"limits": 3})
    level = [1.25 if place >= SLOWER_AT else 1.0 for place in range(RUNS)]
    medians = [a * b for a, b in zip(history.noisy(RUNS), level, strict=True)]
    history.measure(check, runs, medians)
    requests = history.metric(
        "http", metric="requests", unit="requests/s", direction="higher", suite="site"
    )
    faster = [value * (1.3 if place >= 30 else 1) for place, value in enumerate(medians)]
    history.measure(requests, runs, [12_000 * value / 100 for value in faster])
    long_name = "memory-of-a-million-identities-with-ten-limits-each-on-a-cluster-of-three"
    memory = history.metric(long_name, metric="memory", unit="bytes", suite="stored")
    history.measure(memory, runs[-4:], [123_456_789.0, 123_460_000.0, 123_450_000.0, 123_456_000.0])
    suspect = runs[SLOWER_AT]
    Regression.objects.create(
        metric=check,
        machine=suspect.machine,
        branch="main",
        state="confirmed",
        run=suspect,
        ratio=1.25,
        p_value=0.000019,
        opened_at=suspect.started_at,
        confirmed_at=suspect.started_at + timedelta(minutes=30),
        evidence={
            "outcome": "confirmed",
            "new_median": 125.0,
            "new_n": 5,
            "baseline_median": 100.0,
            "mad": 1.5,
            "n": 20,
            "beyond": 5,
        },
    )
    Regression.objects.create(
        metric=memory,
        machine=suspect.machine,
        branch="main",
        run=runs[-1],
        ratio=1.12,
        evidence={"new_median": 123_456_000.0, "baseline_median": 110_000_000.0, "n": 12},
    )
    Regression.objects.create(
        metric=requests,
        machine=suspect.machine,
        branch="main",
        state="accepted",
        better=True,
        run=runs[30],
        ratio=0.77,
        opened_at=runs[30].started_at,
        closed_at=runs[32].started_at,
        reason="Leases are the default since this commit.",
        evidence={"new_median": 15_600.0, "baseline_median": 12_000.0},
    )
    Annotation.objects.create(
        at=runs[20].started_at, kind="deployment", text="Release 1.4", commit=runs[20].commit
    )
    elsewhere = history.machine("there", cpu="Another CPU", cores=8)
    (other,) = history.runs(1, end=end - timedelta(days=1), machine=elsewhere, branch="feature")
    history.measure(check, [other], [50.0])
    BenchmarkRun.objects.create(
        state="running",
        trigger="staff",
        set_name="full",
        started_at=end,
        seen_at=end + timedelta(days=1),  # The demo's own schedule is not to find it lost.
        done=3,
        total=12,
        current="check-3",
        machine=suspect.machine,
        branch="main",
    )


main()
