"""A diagnosis that staff ask for: queued by the page, made by a worker, kept for the page.

By the worker of the queue ``monitoring``: ``celery --app iota worker --queues monitoring
--concurrency 1``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from celery import current_app, shared_task
from django.contrib.auth.models import AbstractBaseUser
from django.utils import timezone
from kombu.exceptions import OperationalError

from .look import Look
from .models import Diagnosis
from .registry import Outcome, load_hooks

TASK = "monitoring.diagnose"
QUEUE = "monitoring"
SOFT_S, HARD_S = 80, 100
State = Diagnosis.State


def ask(user: AbstractBaseUser) -> Diagnosis:
    """Raises ValueError while one waits or runs, and where the broker does not take it: then the
    row says so too."""
    Diagnosis.settle(timezone.now())
    if Diagnosis.objects.filter(state__in=(State.QUEUED, State.RUNNING)).exists():
        raise ValueError("The doctor is at it already.")
    made = Diagnosis.objects.create(requested_by_id=user.pk)
    try:
        # A connection of its own: the pool's would try for seconds, while the page waits.
        with current_app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
            current_app.send_task(TASK, [made.pk], queue=QUEUE, connection=connection, retry=False)
    except OperationalError as error:
        made.state, made.ended_at = State.LOST, timezone.now()
        made.note = "Celery's broker did not answer."
        made.save(update_fields=["state", "ended_at", "note"])
        raise ValueError(
            "Not started: Celery's broker does not answer. `manage.py doctor` needs none."
        ) from error
    return made


@shared_task(bind=True, name=TASK, ignore_result=True, soft_time_limit=SOFT_S, time_limit=HARD_S)
def diagnose(self: Any, diagnosis_id: int) -> None:
    """Run the doctor for who asked. What was taken already, deleted or given up is left alone."""
    taken = Diagnosis.objects.filter(pk=diagnosis_id, state=State.QUEUED).update(
        state=State.RUNNING, started_at=timezone.now(), seen_at=timezone.now()
    )
    if taken:
        run(diagnosis_id, worker=self.request.hostname or "")


def run(diagnosis_id: int, *, worker: str = "") -> None:
    row = Diagnosis.objects.filter(pk=diagnosis_id)

    def told(done: int, total: int, title: str) -> None:
        row.update(done=done, total=total, current=title[:100], seen_at=timezone.now())

    began_s = time.monotonic()
    look = Look(worker=worker)
    try:
        outcomes = load_hooks().diagnose(look, progress=told)
    finally:
        look.close()
    row.update(
        state=State.DONE,
        ended_at=timezone.now(),
        took_s=time.monotonic() - began_s,
        outcomes=as_json(outcomes),
        note="",
    )
    Diagnosis.forget_old()


def as_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [asdict(outcome) for outcome in outcomes]
