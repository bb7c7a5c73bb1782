"""What a suspect is repeated by: runs of the benchmarks that it concerns, one after the other."""

from __future__ import annotations

from .judging import names_to_rerun
from .models import BenchmarkRun


def make_reruns(run: BenchmarkRun, number: int) -> list[BenchmarkRun]:
    """Rows that wait; starting them is the caller's, once the transaction is committed."""
    names = names_to_rerun(run)
    return [
        BenchmarkRun.objects.create(
            trigger=BenchmarkRun.Trigger.RERUN, chosen=names, rerun_of=run, note=f"Repeats {run}."
        )
        for _ in range(number)
    ]
