"""Every Celery task, and the queue that it waits in."""

from __future__ import annotations

import inspect
from typing import Any

from iota.celery import app

from .markdown import code, first_paragraph, table

OURS = ("apps.", "iota.")
"""Modules. A process may have tasks of others: Celery's, and those of tests."""

HEAD = """\
# Celery tasks

Beat starts the periodic ones from the schedule that staff edit in the admin (*Periodic tasks*),
where their arguments can be changed too. `celery` is the queue of a worker that names none. The
other queues want a worker of their own: what measures would be disturbed, and what watches must
not wait behind what it is to see ([what must run](../guides/operations.md)).
"""


def tasks() -> dict[str, Any]:
    app.loader.import_default_modules()
    return {
        name: task
        for name, task in sorted(app.tasks.items())
        if task.__module__.startswith(OURS) and ".tests." not in task.__module__
    }


def queue_of(name: str) -> str:
    route = app.amqp.router.route({}, name)
    return str(route["queue"].name)


def page() -> str:
    rows = [
        (code(name), code(queue_of(name)), _arguments(task), _limit(task), _says(task))
        for name, task in tasks().items()
    ]
    return "\n".join(
        [
            HEAD,
            table(("task", "queue", "arguments", "ended after", "what it does"), rows),
        ]
    )


def _arguments(task: Any) -> str:
    taken = [one for one in inspect.signature(task.run).parameters.values() if one.name != "self"]
    return ", ".join(code(one.name + _default(one.default)) for one in taken)


def _default(value: Any) -> str:
    return "" if value is inspect.Parameter.empty else f"={getattr(value, 'value', value)!r}"


def _limit(task: Any) -> str:
    return f"{task.time_limit} s" if task.time_limit else ""


def _says(task: Any) -> str:
    return first_paragraph(inspect.getdoc(task.run))
