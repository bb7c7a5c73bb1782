"""The async transport where servers die, restart, fail over or say what nobody asked for."""

from __future__ import annotations

import asyncio
import time

import redis
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.packing import command
from apps.ratelimits.storage.pipelining import Pipeline

from .connecting import PING, demoted, echo, evals, lose, observer, proxy, replicated, server
from .limiters import A, rule
from .pipelines import complaints, limiter, make, outcome, outcomes, soon

__all__ = ["complaints", "demoted", "limiter", "make", "observer", "proxy", "replicated", "server"]


async def test_a_server_that_dies_fails_all_that_wait_at_once(make, server, observer):
    pipeline = make(5.0)
    await pipeline.ask(PING)
    server.pause()
    waiting = [pipeline.ask(command("INCR", "count")) for _ in range(20)]
    await asyncio.sleep(0.02)
    began_s = time.monotonic()
    server.kill()
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(error) for error in errors} == {redis.ConnectionError}
    # What redis-py found, not merely that it is over.
    assert {"while reading" in str(error) for error in errors} == {True}
    assert time.monotonic() - began_s < 1
    assert await outcome(pipeline.ask(PING)) is redis.ConnectionError
    server.start()
    assert await pipeline.ask(command("INCR", "count")) == 1


async def test_a_restart_while_the_connection_is_idle_costs_no_check(limiter, server):
    target = Target(rule(quota=10), A)
    await limiter.acheck([target])
    server.kill()
    await asyncio.to_thread(server.start)
    assert (await limiter.acheck([target])).remaining == 9
    assert limiter.redis.breaker.failed_total == 0
    with server.client() as direct:
        assert evals(direct) == 1
    await limiter.aclose()


async def test_a_reply_that_nobody_asked_for_answers_nobody(make, proxy):
    pipeline = make(url=proxy.url)
    await pipeline.ask(PING)
    proxy.inject(b"+STRAY\r\n")
    await soon(lambda: not pipeline._lines)
    assert await pipeline.ask(echo("mine")) == b"mine"
    assert proxy.accepted == 2


async def test_a_demoted_primarys_refusal_leads_to_a_new_connection(make, server, demoted, proxy):
    proxy.upstream = demoted.port
    pipeline = make(0.3, url=proxy.url)
    await pipeline.ask(PING)
    proxy.upstream = server.port
    refused = pipeline.ask(command("INCR", "count"))
    beside = pipeline.ask(echo("beside"))
    assert await outcomes(refused, beside) == [redis.exceptions.ReadOnlyError, b"beside"]
    assert await pipeline.ask(command("INCR", "count")) == 1
    await soon(lambda: len(pipeline._lines) == 1)


async def test_after_a_failover_sentinel_leads_to_the_new_primary(replicated):
    primary, replica, watcher = replicated
    address = "127.0.0.1", watcher.port
    sentinels = redis.asyncio.sentinel.Sentinel([address], socket_timeout=1)
    no_retry = Retry(NoBackoff(), 0)
    client = sentinels.master_for("main", socket_timeout=0.3, retry=no_retry)
    pipeline = Pipeline(client.connection_pool, 0.3)
    assert await pipeline.ask(command("INCR", "count")) == 1
    with replica.client() as direct:
        await soon(lambda: direct.get("count") == b"1")
    watching = redis.sentinel.Sentinel([address])
    await asyncio.to_thread(lose, primary, replica, watching)
    watching.sentinels[0].close()
    assert await outcome(pipeline.ask(command("INCR", "count"))) is redis.TimeoutError
    assert await pipeline.ask(command("INCR", "count")) == 2
    await pipeline.close()
    await sentinels.sentinels[0].aclose()
