"""Celery's part of the log: which task a line is about, in the same form as every other."""

from __future__ import annotations

import logging
from typing import Any

from celery.signals import after_setup_task_logger, task_postrun, task_prerun

from . import logs


@task_prerun.connect
def _begin_of_task(task_id: str, task: Any, **kwargs: Any) -> None:
    """Whatever is logged meanwhile says of which task it is. One may run within another."""
    task.request.logged_before = logs.task.get()
    logs.task.set(logs.Task(task.name, task_id))


@task_postrun.connect
def _end_of_task(task: Any, **kwargs: Any) -> None:
    logs.task.set(getattr(task.request, "logged_before", None))


@after_setup_task_logger.connect
def _log_as_everything_else_does(logger: logging.Logger, **kwargs: Any) -> None:
    """Celery gives the loggers of tasks a handler and a form of its own."""
    logger.handlers.clear()
    logger.propagate = True
