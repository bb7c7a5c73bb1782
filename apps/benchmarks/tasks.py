"""What Celery does for the history of benchmarks.

Measuring is done by a worker of its own, one run at a time:
``celery --app iota worker --queues benchmarks --concurrency 1``. The rest is for any worker.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from celery import shared_task
from django.db import transaction

from . import load_testing, retention
from .judging import judge_run, judge_waiting, settle_waiting
from .models import BenchmarkRun, LoadTest
from .queueing import NotQueued, enqueue
from .recording import Busy, mark_lost, record
from .reruns import make_reruns
from .series import remember_levels
from .telling import tell

logger = logging.getLogger(__name__)

BUSY_RETRY_S = 5
KEEP_DAYS = 730
KEEP_RUNS = 10_000


@shared_task(
    bind=True, name="benchmarks.record_benchmark_history", ignore_result=True, max_retries=None
)
def record_benchmark_history(
    self: Any,
    run_id: int | None = None,
    set_name: str = "full",
    benchmarks: Sequence[str] = (),
) -> None:
    """Measure the run that waits as ``run_id``, or a scheduled one: of the set, or of single
    ``benchmarks`` where a row of the schedule names them.

    While another is measured it waits, without keeping the worker.
    """
    if run_id is None:
        run = BenchmarkRun.objects.create(
            trigger=BenchmarkRun.Trigger.SCHEDULE,
            set_name="" if benchmarks else set_name,
            chosen=list(benchmarks),
        )
    else:
        found = BenchmarkRun.objects.filter(pk=run_id).first()
        if found is None:  # deleted while it waited
            return
        run = found
    try:
        record(run)
    except Busy as busy:
        raise self.retry(args=(run.pk,), kwargs={}, countdown=BUSY_RETRY_S, exc=busy) from busy
    judge_run(run, queue_reruns)
    remember_levels(run)


@shared_task(bind=True, name="benchmarks.run_load_test", ignore_result=True, max_retries=None)
def run_load_test(self: Any, test_id: int) -> None:
    """The one that waits; while another or a benchmark runs it goes on waiting."""
    test = LoadTest.objects.filter(pk=test_id).first()
    if test is None:  # deleted while it waited
        return
    try:
        load_testing.perform(test)
    except Busy as busy:
        raise self.retry(countdown=BUSY_RETRY_S, exc=busy) from busy


def queue_reruns(run: BenchmarkRun, number: int) -> None:
    """As ``judge_run`` asks for them: in its transaction, and started once it is committed."""
    for rerun in make_reruns(run, number):
        transaction.on_commit(partial(_start, rerun))


def _start(rerun: BenchmarkRun) -> None:
    """One that could not be started has failed: its suspect does not wait for it."""
    try:
        enqueue(rerun)
    except NotQueued as error:
        logger.warning("%s: %s", rerun, error)


@shared_task(name="benchmarks.watch_runs", ignore_result=True)
def watch_runs() -> None:
    """Each minute: runs whose worker died are lost; what it left is judged, settled and told."""
    mark_lost()
    load_testing.mark_lost()
    judge_waiting(queue_reruns)
    settle_waiting()
    tell()


@shared_task(name="benchmarks.forget_old_runs", ignore_result=True)
def forget_old_runs(keep_days: int = KEEP_DAYS, keep_runs: int = KEEP_RUNS) -> int:
    """Each day. What is kept is said in the schedule's row, which staff edit."""
    return retention.forget_old_runs(keep_days, keep_runs)
