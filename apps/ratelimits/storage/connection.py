"""Clients of the limiter.

No client retries by itself: redis-py would send a slow check up to ten times, and each of them
would be charged.
"""

from __future__ import annotations

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry


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
