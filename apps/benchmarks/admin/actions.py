"""What the pages' buttons do: the one place that knows who does it."""

from __future__ import annotations

from celery import current_app
from django.contrib.auth.models import AbstractBaseUser
from django.utils import timezone
from kombu.exceptions import OperationalError

from ..models import BenchmarkRun, Regression

TASK = "benchmarks.record_benchmark_history"
QUEUE = "benchmarks"
State = BenchmarkRun.State
SETS = {
    "quick": "what each change is tested with",
    "full": "every benchmark",
    "analysis": "how it scales with keys, limits and threads",
}


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


def stop(run: BenchmarkRun) -> None:
    """The worker looks at the state between benchmarks. Raises ValueError once it has ended."""
    stopped = BenchmarkRun.objects.filter(
        pk=run.pk, state__in=(State.QUEUED, State.RUNNING)
    ).update(state=State.STOPPED, ended_at=timezone.now())
    if not stopped:
        raise ValueError(f"There is nothing to stop: {run} has ended.")


def enqueue(run: BenchmarkRun) -> None:
    """By name: the pages need not import what measures. Raises ValueError where nobody takes it,
    and the run says so too: it must not wait for ever."""
    try:
        # A connection of its own: the pool's would try for seconds, while the page waits.
        with current_app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
            current_app.send_task(TASK, [run.pk], queue=QUEUE, connection=connection, retry=False)
    except OperationalError as error:
        run.state, run.ended_at = State.FAILED, timezone.now()
        run.note = "Celery's broker did not answer."
        run.save(update_fields=["state", "ended_at", "note"])
        raise ValueError("Not started: Celery's broker does not answer.") from error
