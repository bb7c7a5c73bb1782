"""Which errors say that Redis is away, and the breaker in front of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import redis

from .errors import BreakerOpen, Unavailable

# Replies that say "not now" or "not I", as opposed to "your script is wrong".
_UNAVAILABLE_REPLIES = (
    "LOADING",
    "READONLY",
    "OOM",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "MISCONF",
    "BUSY",
    "NOAUTH",
    "WRONGPASS",
    "NOREPLICAS",
    "max number of clients",
    "ERR max number of clients",
    "-OOM",
    "command not allowed when used memory",
    "Script killed",
    "UNKILLABLE",
)
_UNAVAILABLE_ERRORS = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.NoPermissionError,
    redis.exceptions.MovedError,
    redis.exceptions.AskError,
    redis.exceptions.TryAgainError,
)


def as_unavailable(error: Exception) -> Unavailable | None:
    """The error as Unavailable, or None where it is a mistake of ours and must surface."""
    if isinstance(error, redis.ResponseError) and not isinstance(error, _UNAVAILABLE_ERRORS):
        text = str(error)
        if not any(reply in text[:200] for reply in _UNAVAILABLE_REPLIES):
            return None
    return Unavailable(f"{type(error).__name__}: {error}")


class Breaker:
    """Stops asking a server that fails, and lets one call through now and then to see.

    Closed until ``failures`` calls in a row fail; then open for ``open_s``; then one caller
    probes while the others are still refused. While ``in_a_row`` is 0 neither ``before_call`` nor
    ``succeeded`` need be called.
    """

    def __init__(
        self, failures: int, open_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures = failures
        self._open_s = open_s
        self._clock = clock
        self._lock = threading.Lock()
        self.in_a_row = 0
        self._open_until = 0.0
        self.failed_total = 0

    def before_call(self) -> None:
        """Raises BreakerOpen where the server is not to be asked."""
        if self.in_a_row < self._failures:
            return
        with self._lock:
            now = self._clock()
            if now < self._open_until:
                raise BreakerOpen("Redis failed repeatedly; not asked")
            self._open_until = now + self._open_s

    def succeeded(self) -> None:
        if self.in_a_row:
            with self._lock:
                self.in_a_row = 0

    def failed(self) -> None:
        with self._lock:
            self.failed_total += 1
            self.in_a_row += 1
            if self.in_a_row >= self._failures:
                self._open_until = self._clock() + self._open_s
