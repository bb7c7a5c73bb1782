"""Handing a run to the worker that measures: by name and in bounded time, for pages and tasks."""

from __future__ import annotations

from celery import current_app
from django.utils import timezone
from kombu.exceptions import OperationalError

from .models import BenchmarkRun

TASK = "benchmarks.record_benchmark_history"
QUEUE = "benchmarks"
TIMEOUT_S = 2
"""A page waits meanwhile: for a broker that is gone, and for one that is frozen."""


class NotQueued(ValueError):
    """Celery's broker does not answer; the run has failed, and says why."""


def enqueue(run: BenchmarkRun) -> None:
    """Raises NotQueued: a run that nobody takes must not wait for ever, nor a suspect for it."""
    # A connection of its own: the pool's would try for seconds, or wait for ever for a reply.
    timeouts = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
    try:
        with current_app.connection_for_write(transport_options=timeouts) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=TIMEOUT_S)
            current_app.send_task(TASK, [run.pk], queue=QUEUE, connection=connection, retry=False)
    except OperationalError as error:
        run.state, run.ended_at = BenchmarkRun.State.FAILED, timezone.now()
        run.note = f"{run.note}\nCelery's broker did not answer.".strip()
        run.save(update_fields=["state", "ended_at", "note"])
        raise NotQueued("Not started: Celery's broker does not answer.") from error
