"""Handing a run to the worker that measures: by name and in bounded time, for pages and tasks."""

from __future__ import annotations

from celery import current_app
from django.utils import timezone
from kombu.exceptions import OperationalError

from .models import BenchmarkRun, LoadTest

TASK = "benchmarks.record_benchmark_history"
QUEUE = "benchmarks"
LOAD_TASK = "benchmarks.run_load_test"
LOAD_QUEUE = "loadtests"
TIMEOUT_S = 2
"""A page waits meanwhile: for a broker that is gone, and for one that is frozen."""


class NotQueued(ValueError):
    """Celery's broker does not answer; the run has failed, and says why."""


def enqueue(run: BenchmarkRun) -> None:
    """Raises NotQueued: a run that nobody takes must not wait for ever, nor a suspect for it."""
    _send(run, TASK, QUEUE)


def enqueue_load_test(test: LoadTest) -> None:
    """Raises NotQueued."""
    _send(test, LOAD_TASK, LOAD_QUEUE)


def _send(row: BenchmarkRun | LoadTest, task: str, queue: str) -> None:
    # A connection of its own: the pool's would try for seconds, or wait for ever for a reply.
    timeouts = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
    try:
        with current_app.connection_for_write(transport_options=timeouts) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=TIMEOUT_S)
            current_app.send_task(task, [row.pk], queue=queue, connection=connection, retry=False)
    except OperationalError as error:
        row.state, row.ended_at = row.State.FAILED, timezone.now()
        row.note = f"{row.note}\nCelery's broker did not answer.".strip()
        row.save(update_fields=["state", "ended_at", "note"])
        raise NotQueued("Not started: Celery's broker does not answer.") from error
