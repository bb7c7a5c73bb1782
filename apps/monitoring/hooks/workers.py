"""Celery: whether each queue has a worker, how long the queues are, and whether beat lives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import redis
from celery import current_app
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from kombu.exceptions import OperationalError

from apps.ratelimits.storage.server_findings import Finding, Level

from ..amounts import in_time
from ..look import Look, unknown
from ..registry import Topic, finding

INSPECT_S = 1.0
AGAIN_S = 2.0
"""So long a second time, where a queue seems to have no worker: it may only be busy."""
CONNECT_S = 2
PATIENCE = {"socket_timeout": CONNECT_S, "socket_connect_timeout": CONNECT_S}
LONG_QUEUE = 1_000
WRITTEN_LATE = timedelta(minutes=6)
"""Beat writes what it ran to the database every three to five minutes."""
FREQUENT = timedelta(minutes=2)
MOST_NAMED = 10
BROKER = "Celery's broker"
START = "celery --app iota worker --queues {queue} --concurrency 1"


@dataclass(frozen=True, slots=True)
class Queues:
    """What is wanted, and who is there: by queue, the workers that take from it, and its length
    (None: it cannot be told)."""

    wanted: Sequence[str]
    default: str
    workers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lengths: Mapping[str, int | None] = field(default_factory=dict)


@finding("workers", Topic.LIMITER, "Celery's workers, queues and beat", limit_s=6)
def workers(look: Look) -> Iterator[Finding]:
    wanted, default = wanted_queues()
    try:
        # A connection of its own: the pool's would try for long.
        with current_app.connection_for_write(transport_options=PATIENCE) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_S)
            lengths = {queue: _length(connection, queue) for queue in wanted}
            there = _workers(connection, wanted)
    except (OperationalError, OSError, redis.RedisError) as error:
        yield Finding(
            Level.ERROR,
            "no-broker",
            BROKER,
            "Celery's broker does not answer: nothing is cleaned, sampled or reconciled.",
            f"{type(error).__name__}: {error}",
            "Start it, or mend CELERY_BROKER_URL.",
        )
    else:
        if look.worker:
            # Who diagnoses cannot answer meanwhile, where it has no process to spare.
            there.setdefault(look.worker, list(current_app.amqp.queues.consume_from))
        by_queue: dict[str, list[str]] = {}
        for worker, queues in there.items():
            for queue in queues:
                by_queue.setdefault(queue, []).append(worker)
        yield from judge(Queues(wanted, default, by_queue, lengths))
    rows = PeriodicTask.objects.select_related("interval", "crontab")
    yield from judge_beat(list(rows), timezone.now())


def wanted_queues() -> tuple[list[str], str]:
    """The default one, and each that tasks are sent to."""
    default = str(current_app.conf.task_default_queue)
    routes: Mapping[str, Any] = current_app.conf.task_routes or {}
    named = {str(route["queue"]) for route in routes.values() if "queue" in route}
    return [default, *sorted(named - {default})], default


def _length(connection: Any, queue: str) -> int | None:
    """Of all its priorities. None where the broker cannot say without making it."""
    channel = connection.default_channel
    try:
        return int(channel._size(queue))
    except AttributeError:
        return None


def _workers(connection: Any, wanted: Sequence[str]) -> dict[str, list[str]]:
    """The queues of each worker that answers in time."""
    found: dict[str, list[str]] = {}
    for within_s in (INSPECT_S, AGAIN_S):
        inspect = current_app.control.inspect(timeout=within_s, connection=connection)
        for worker, queues in (inspect.active_queues() or {}).items():
            found[worker] = [str(queue["name"]) for queue in queues]
        if set(wanted) <= {queue for queues in found.values() for queue in queues}:
            break
    return found


def judge(queues: Queues) -> Iterator[Finding]:
    for queue in queues.wanted:
        length = queues.lengths.get(queue)
        waiting = f"waiting messages: {'not known' if length is None else f'{length:,}'}"
        there = queues.workers.get(queue, ())
        if not there:
            yield Finding(
                Level.ERROR if queue == queues.default else Level.WARNING,
                "no-worker",
                f"queue {queue}",
                "No worker takes from this queue: its tasks are not done.",
                f"none answered within {INSPECT_S + AGAIN_S:g} s; {waiting}",
                f"Start one: `{START.format(queue=queue)}`",
            )
        if length is not None and length > LONG_QUEUE:
            yield Finding(
                Level.WARNING,
                "queue-long",
                f"queue {queue}",
                "Tasks come faster than they are done.",
                f"{waiting}; workers: {len(there)}",
                "Start more workers, or see which task takes long in the worker's log.",
            )
        elif there:
            shown = ", ".join(there[:3])
            yield Finding(
                Level.INFO, "worker", f"queue {queue}", "It has a worker.", f"{shown}; {waiting}"
            )


def judge_beat(rows: Sequence[PeriodicTask], now: datetime) -> Iterator[Finding]:
    enabled = [row for row in rows if row.enabled]
    often = [row for row in enabled if (every := _period(row)) and every <= FREQUENT]
    ran = [row.last_run_at for row in often if row.last_run_at]
    where = "celery beat"
    changed = [row.date_changed for row in often if row.date_changed]
    fresh = bool(changed) and now - max(changed) < WRITTEN_LATE
    start = "Start it, once: `celery --app iota beat`"
    if not often:
        yield unknown(
            "whether beat lives",
            where,
            "no enabled periodic task is due every two minutes or more often",
            "Enable one under Periodic tasks in the admin.",
        )
    elif fresh and (not ran or now - max(ran) > WRITTEN_LATE):
        # Beat, too, writes the rows of its settings when it starts.
        yield unknown(
            "whether beat lives",
            where,
            "it was started, or its periodic tasks were edited, a few minutes ago, and it writes "
            "what it ran every few minutes only",
            f"Look again in {in_time(WRITTEN_LATE.total_seconds())}.",
        )
    elif not ran:
        why = f"none of {len(often)} frequent periodic tasks was ever run"
        yield Finding(Level.ERROR, "no-beat", where, "Beat has never run.", why, start)
    elif (age := now - max(ran)) > WRITTEN_LATE:
        yield Finding(
            Level.ERROR,
            "no-beat",
            where,
            "Beat does not run: nothing periodic is done.",
            f"the newest run of {len(often)} frequent tasks was {in_time(age.total_seconds())} ago",
            start,
        )
    else:
        said = f"a periodic task ran {in_time(max(0.0, age.total_seconds()))} ago"
        yield Finding(Level.INFO, "beat", where, "Beat runs.", said)
    off = [
        str(row.name) for row in rows if not row.enabled and row.task != "celery.backend_cleanup"
    ]
    if off:
        more = f" and {len(off) - MOST_NAMED} more" if len(off) > MOST_NAMED else ""
        yield Finding(
            Level.INFO,
            "tasks-off",
            where,
            "Some periodic tasks are switched off.",
            ", ".join(sorted(off)[:MOST_NAMED]) + more,
            "Periodic tasks in the admin, if that is not meant so.",
        )


def _period(row: PeriodicTask) -> timedelta | None:
    if row.interval is not None:
        return timedelta(**{str(row.interval.period): int(row.interval.every)})
    if row.crontab is not None and row.crontab.minute in ("*", "*/1", "*/2"):
        rest = (row.crontab.hour, row.crontab.day_of_month, row.crontab.month_of_year)
        if {*rest, row.crontab.day_of_week} == {"*"}:
            return timedelta(minutes=1)
    return None
