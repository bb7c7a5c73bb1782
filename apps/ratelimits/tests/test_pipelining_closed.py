"""The async transport at its end: closed, retired, or left behind by a loop that ends."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest
import redis
from asgiref.sync import async_to_sync

from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.packing import command
from tests.servers import flavours, over_tls

from .connecting import PING, clients, observer, opened, proxy, server
from .limiters import A, make_limiter, rule
from .pipelines import BLOCKED, complaints, limiter, make, outcome, outcomes, soon, when

__all__ = ["complaints", "limiter", "make", "observer", "opened", "proxy", "server"]


async def test_closing_fails_what_waits_on_all_lines(make, observer):
    pipeline = make(0.3)
    blocked = asyncio.create_task(when(pipeline.ask(BLOCKED)))
    await asyncio.sleep(0.2)
    behind = pipeline.ask(PING)
    await blocked
    await pipeline.ask(PING)
    on_the_new_one = [pipeline.ask(BLOCKED), pipeline.ask(PING)]
    await asyncio.sleep(0.02)
    began_s = time.monotonic()
    await pipeline.close()
    failed = await outcomes(behind, *on_the_new_one)
    assert failed == [redis.ConnectionError] * 3
    assert time.monotonic() - began_s < 0.1
    assert await pipeline.ask(PING) == b"PONG"


async def test_retiring_ends_each_connection_with_the_last_who_waits_on_it(make, observer):
    pipeline = make(1.0)
    await pipeline.ask(PING)
    first = pipeline.ask(command("BLPOP", "go", 0))
    await asyncio.sleep(0.05)
    pipeline.retire()
    late = pipeline.ask(command("ECHO", "late"))
    observer.rpush("go", "now")
    assert await first == [b"go", b"now"]
    assert await late == b"late"
    await soon(lambda: not pipeline._lines)
    idle = make(1.0)
    await idle.ask(PING)
    idle.retire()
    await soon(lambda: not idle._lines)


async def test_closing_fails_what_has_not_even_begun(make, opened):
    pipeline = make()
    reply = pipeline.ask(PING)
    await pipeline.close()
    assert await outcome(reply) is redis.ConnectionError
    assert opened() == 0


SHORT_LOOPS = [
    pytest.param(lambda check, target: async_to_sync(check)([target]), id="async_to_sync"),
    pytest.param(lambda check, target: asyncio.run(check([target])), id="asyncio.run"),
]


def in_a_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@pytest.mark.parametrize("short_loop", SHORT_LOOPS)
async def test_short_loops_leave_nothing_behind(limiter, observer, short_loop):
    target = Target(rule(quota=1000), A)
    in_a_thread(lambda: [short_loop(limiter.acheck, target) for _ in range(20)])
    gc.collect()
    assert len(limiter.redis._pipelines) == 0
    await soon(lambda: clients(observer) == 0)


async def test_nor_does_one_that_ends_while_some_still_wait(limiter, server, observer):
    async def site():
        pipeline = limiter.redis.pipeline()
        await pipeline.ask(PING)
        waiting = asyncio.ensure_future(outcome(pipeline.ask(BLOCKED)))
        await asyncio.sleep(0.01)
        pipeline.ask(PING)
        return waiting

    in_a_thread(lambda: asyncio.run(site()))
    gc.collect()
    assert len(limiter.redis._pipelines) == 0
    await soon(lambda: clients(observer) == 0)


@pytest.fixture
def tls_server():
    if "redis" not in flavours():
        pytest.skip("no redis-server, which alone speaks TLS")
    started = over_tls("redis").start()
    yield started
    started.stop()


@pytest.mark.parametrize("short_loop", SHORT_LOOPS)
async def test_nor_do_they_over_tls(tls_server, short_loop):
    limiter = make_limiter(tls_server.url, redis_timeout_ms=2000)
    target = Target(rule(quota=1000), A)
    in_a_thread(lambda: [short_loop(limiter.acheck, target) for _ in range(5)])
    gc.collect()
    assert len(limiter.redis._pipelines) == 0
    with tls_server.client() as direct:
        await soon(lambda: clients(direct) == 0)
    limiter.close()
