"""What the pages' buttons do: the one place that knows who does it."""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser

from ..models import BenchmarkRun, Regression
from ..queueing import enqueue
from ..sets import SETS

State = BenchmarkRun.State


def run_now(set_name: str, user: AbstractBaseUser) -> BenchmarkRun:
    """Raises ValueError for a set that is not there, or while one waits or runs already."""
    if set_name not in SETS:
        raise ValueError(f"There is no set {set_name!r}: choose {', '.join(SETS)}.")
    waiting = BenchmarkRun.objects.filter(state=State.QUEUED, set_name=set_name).first()
    if waiting is not None:
        raise ValueError(f"The {set_name} set waits already: {waiting}.")
    run = BenchmarkRun.objects.create(
        trigger=BenchmarkRun.Trigger.STAFF, set_name=set_name, requested_by_id=user.pk
    )
    enqueue(run)
    return run


def run_again(run: BenchmarkRun, user: AbstractBaseUser) -> BenchmarkRun:
    """The same benchmarks once more; no rerun of a suspect, which counts for it alone."""
    again = BenchmarkRun.objects.create(
        trigger=BenchmarkRun.Trigger.STAFF,
        set_name=run.set_name,
        chosen=run.chosen,
        requested_by_id=user.pk,
    )
    enqueue(again)
    return again


def measure_again(regression: Regression, user: AbstractBaseUser) -> BenchmarkRun:
    """Its benchmark alone, as the code is now: judged as any run is."""
    run = BenchmarkRun.objects.create(
        trigger=BenchmarkRun.Trigger.STAFF,
        chosen=[regression.metric.benchmark],
        requested_by_id=user.pk,
    )
    enqueue(run)
    return run
