"""Log lines, for people or as JSON, each with the request or the task that it is about.

No password leaves in one: URLs and options that carry one are masked, whoever wrote the line.
"""

from __future__ import annotations

import json
import logging
import re
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import NamedTuple

from .request_id import request_id

FORMATS = ("line", "json")
MASK = "********"

# All before the last "@" of a URL's place: a user's name is nobody's business either.
_IN_URL = re.compile(r"(?<=://)[^\s/'\"]*@")
_IN_OPTION = re.compile(r"(?i)((?:pass(?:word|wd)?|secret|token)=)[^&\s'\",;)]+")
_BEARER = re.compile(r"(?i)(\b(?:bearer|basic) )[A-Za-z0-9._~+/=-]{8,}")


class Task(NamedTuple):
    name: str
    id: str


task: ContextVar[Task | None] = ContextVar("task", default=None)
"""That runs here, of Celery (``iota/celery.py``)."""


def masked(text: str) -> str:
    if "@" in text and "://" in text:
        text = _IN_URL.sub(f"{MASK}@", text)
    if "=" in text:
        text = _IN_OPTION.sub(rf"\1{MASK}", text)
    return _BEARER.sub(rf"\1{MASK}", text)


class LineFormatter(logging.Formatter):
    """``2026-11-25 10:00:00,000 INFO apps.x [4f2a…] text``; in brackets what it is about."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s%(about)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        running = task.get()
        about = f"{running.name} {running.id}" if running else request_id.get()
        record.about = f" [{about}]" if about else ""
        return masked(super().format(record))


class JsonFormatter(logging.Formatter):
    """An object a line: time (UTC), level, logger, message, and where there is one request_id,
    task, task_id, exception."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        if own := request_id.get():
            said["request_id"] = own
        if running := task.get():
            said |= {"task": running.name, "task_id": running.id}
        if record.exc_info:
            said["exception"] = masked(self.formatException(record.exc_info))
        if record.stack_info:
            said["stack"] = masked(self.formatStack(record.stack_info))
        return json.dumps(said)
