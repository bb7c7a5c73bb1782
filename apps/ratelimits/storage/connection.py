"""Clients of the limiter, and the breaker in front of them.

No client retries by itself: redis-py would send a slow check up to ten times, and each of them
would be charged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from .errors import BreakerOpen, Unavailable
from .failures import kind_of


def as_unavailable(error: Exception) -> Unavailable | None:
    """The error as Unavailable, or None where it is a mistake of ours and must surface."""
    return Unavailable(f"{type(error).__name__}: {error}") if kind_of(error) else None


def make_client(url: str, *, timeout_ms: int, max_connections: int) -> redis.Redis:
    """A client for ``redis://``, ``rediss://`` or ``unix://``; replies are bytes."""
    return redis.Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout_ms / 1000,
        socket_connect_timeout=timeout_ms / 1000,
        max_connections=max_connections,
    )


def make_async_client(url: str, *, timeout_ms: int, max_connections: int) -> redis.asyncio.Redis:
    """The same for one event loop: its connections belong to the loop that opened them."""
    return redis.asyncio.Redis.from_url(
        url,
        retry=AsyncRetry(NoBackoff(), 0),
        socket_timeout=timeout_ms / 1000,
        socket_connect_timeout=timeout_ms / 1000,
        max_connections=max_connections,
    )


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

    @property
    def state(self) -> str:
        """For people: ``closed`` while Redis is asked, ``open`` while it is left alone."""
        return "open" if self.in_a_row >= self._failures else "closed"

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
