"""Pipelines to a server, what comes of what they are asked, and a loop that complains of none."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis

from apps.ratelimits.storage.limiter import RateLimiter
from apps.ratelimits.storage.packing import command
from apps.ratelimits.storage.pipelining import Pipeline
from apps.ratelimits.storage.topology import Topology
from tests.proxies import Proxy
from tests.servers import RedisProcess

from .connecting import observer, proxy, server
from .limiters import make_limiter

__all__ = ["observer", "proxy", "server"]

BLOCKED = command("BLPOP", "nothing", 0)
"""Has no reply, and holds up all that comes behind it on its connection."""


@pytest.fixture(autouse=True)
async def complaints() -> AsyncIterator[list[dict[str, Any]]]:
    """Of the event loop, as of tasks that were destroyed: there are none."""
    heard: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(context))
    yield heard
    gc.collect()
    await asyncio.sleep(0)
    assert heard == []


@pytest.fixture
async def make(server: RedisProcess) -> AsyncIterator[Callable[..., Pipeline]]:
    """A pipeline to the server, or to ``url``."""
    made: list[Pipeline] = []

    def make(timeout_s: float = 5.0, *, url: str | None = None) -> Pipeline:
        timeout_ms = int(timeout_s * 1000)
        topology = Topology.parse(url or server.url, timeout_ms=timeout_ms, max_connections=1)
        made.append(Pipeline(topology.async_pool(), timeout_s))
        return made[-1]

    yield make
    for pipeline in made:
        await pipeline.close()
    await soon(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def soon(condition: Callable[[], object], within_s: float = 5.0) -> None:
    """``eventually``, while the loop goes on."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true"
        await asyncio.sleep(0.005)


async def outcome(reply: Awaitable[object]) -> object:
    try:
        return await reply
    except (redis.RedisError, OSError) as error:
        return type(error)


async def outcomes(*replies: Awaitable[object]) -> list[object]:
    return await asyncio.gather(*[outcome(reply) for reply in replies])


@pytest.fixture
def limiter(proxy: Proxy, observer: redis.Redis) -> Iterator[RateLimiter]:
    """Through the proxy, which sees its writes."""
    made = make_limiter(proxy.url, redis_timeout_ms=2000)
    yield made
    made.close()


async def when(reply: Awaitable[object]) -> float:
    """How long after now it ran out of time."""
    began_s = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        await reply
    return time.monotonic() - began_s
