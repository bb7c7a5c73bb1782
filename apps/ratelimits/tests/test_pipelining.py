"""The async transport against real servers: one write a turn, and nobody harmed by another."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time

import pytest
import redis
import redis.asyncio.sentinel
import redis.sentinel
from asgiref.sync import async_to_sync
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from apps.ratelimits.policy.rules import Algorithm
from apps.ratelimits.storage import pipelining
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.packing import command
from apps.ratelimits.storage.pipelining import Pipeline
from apps.ratelimits.storage.topology import Topology
from tests.servers import flavours, over_tls

from .connecting import (
    PING,
    clients,
    demoted,  # noqa: F401
    echo,
    evals,
    lose,
    observer,  # noqa: F401
    opened,  # noqa: F401
    proxy,  # noqa: F401
    replicated,  # noqa: F401
    said,
    server,  # noqa: F401
)
from .limiters import A, make_limiter, rule

BLOCKED = command("BLPOP", "nothing", 0)
"""Has no reply, and holds up all that comes behind it on its connection."""


@pytest.fixture(autouse=True)
async def complaints():
    """Of the event loop, as of tasks that were destroyed: there are none."""
    heard = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(context))
    yield heard
    gc.collect()
    await asyncio.sleep(0)
    assert heard == []


@pytest.fixture
async def make(server):  # noqa: F811
    """A pipeline to the server, or to ``url``."""
    made = []

    def make(timeout_s=5.0, *, url=None):
        timeout_ms = int(timeout_s * 1000)
        topology = Topology.parse(url or server.url, timeout_ms=timeout_ms, max_connections=1)
        made.append(Pipeline(topology.async_pool(), timeout_s))
        return made[-1]

    yield make
    for pipeline in made:
        await pipeline.close()
    await soon(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def soon(condition, within_s=5.0):
    """``eventually``, while the loop goes on."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true"
        await asyncio.sleep(0.005)


async def outcome(reply) -> object:
    try:
        return await reply
    except (redis.RedisError, OSError) as error:
        return type(error)


async def outcomes(*replies):
    return await asyncio.gather(*[outcome(reply) for reply in replies])


@pytest.fixture
def limiter(proxy, observer):  # noqa: F811
    """Through the proxy, which sees its writes."""
    made = make_limiter(proxy.url, redis_timeout_ms=2000)
    yield made
    made.close()


async def test_the_checks_of_one_turn_leave_in_one_write_over_one_connection(limiter, proxy):  # noqa: F811
    target = Target(rule(Algorithm.TOKEN_BUCKET, quota=1000), A)
    await limiter.acheck([target])
    assert proxy.accepted == 1
    for checks in (1, 2, 50):
        before = proxy.writes()
        decisions = await asyncio.gather(*[limiter.acheck([target]) for _ in range(checks)])
        assert all(decision.allowed for decision in decisions)
        assert proxy.writes() - before == 1
    assert proxy.accepted == 1
    await limiter.aclose()


async def test_checks_that_arrive_before_there_is_a_connection_share_it(limiter, proxy):  # noqa: F811
    target = Target(rule(quota=1000), A)
    decisions = await asyncio.gather(*[limiter.acheck([target]) for _ in range(30)])
    assert sorted(decision.remaining for decision in decisions) == list(range(970, 1000))
    assert proxy.accepted == 1
    await limiter.aclose()


@pytest.mark.parametrize("seed", range(3))
async def test_replies_are_matched_in_order_whatever_they_are(make, observer, seed):  # noqa: F811
    chance = random.Random(seed)
    observer.set("text", "x")
    pipeline = make()
    kinds = [
        lambda n: (echo(n), said(n)),
        lambda n: (command("ECHO", "x" * 40_000 + str(n)), b"x" * 40_000 + said(n)),
        lambda n: (command("LPUSH", "text", n), redis.ResponseError),
        lambda n: (command("EVALSHA", f"{n:040}", 0), redis.exceptions.NoScriptError),
        lambda n: (command("EVAL", f"return {{{n}, {{{n}}}}}", 0), [n, [n]]),
        lambda n: (command("GET", f"absent{n}"), None),
    ]

    async def caller(who):
        for n in range(40):
            sent, expected = chance.choice(kinds)(1000 * who + n)
            assert await outcome(pipeline.ask(sent)) == expected
            for _ in range(chance.choice([0, 0, 1, 3])):
                await asyncio.sleep(0)

    await asyncio.gather(*[caller(who) for who in range(30)])
    assert clients(observer) == 1


async def test_who_lost_the_script_in_the_middle_of_a_turn_harms_nobody(limiter, observer):  # noqa: F811
    target = Target(rule(quota=100), A)
    await limiter.acheck([target])
    observer.script_flush()
    decisions = await asyncio.gather(*[limiter.acheck([target]) for _ in range(20)])
    assert sorted(decision.remaining for decision in decisions) == list(range(79, 99))
    assert limiter.redis.breaker.failed_total == 0
    await limiter.aclose()


@pytest.mark.parametrize("seed", range(3))
async def test_cancelling_some_harms_no_other(make, observer, seed):  # noqa: F811
    chance = random.Random(seed)
    pipeline = make()

    async def caller(who):
        for n in range(30):
            text = f"{who} {n}"
            assert await pipeline.ask(echo(text)) == said(text)
            refused = command("EVALSHA", f"{n:040}", 0)
            assert await outcome(pipeline.ask(refused)) is redis.exceptions.NoScriptError

    callers = [asyncio.create_task(caller(who)) for who in range(30)]
    cancelled = chance.sample(callers, 15)
    for task in cancelled:
        await asyncio.sleep(0)
        if chance.random() < 0.5:
            await pipeline.ask(PING)
        task.cancel()
    ended = await asyncio.gather(*callers, return_exceptions=True)
    for task, error in zip(callers, ended, strict=True):
        assert error is None or (task in cancelled and isinstance(error, asyncio.CancelledError))
    assert clients(observer) == 1


async def test_what_was_cancelled_before_it_left_is_not_sent(make, observer):  # noqa: F811
    pipeline = make()
    await pipeline.ask(PING)
    replies = [pipeline.ask(command("INCR", f"count{n}")) for n in range(6)]
    for reply in replies[::2]:
        reply.cancel()
    assert [await reply for reply in replies[1::2]] == [1, 1, 1]
    assert sorted(observer.keys()) == [b"count1", b"count3", b"count5"]


async def test_a_cancelled_check_has_its_trip_behind_it_or_is_not_charged(limiter, observer):  # noqa: F811
    target = Target(rule(quota=100), A)
    await limiter.acheck([target])
    checks = [asyncio.create_task(limiter.acheck([target])) for _ in range(10)]
    await asyncio.sleep(0)
    for check in checks[:5]:
        check.cancel()
    await asyncio.wait(checks)
    assert (await limiter.acheck([target])).remaining == 99 - 5 - 1
    await limiter.aclose()


async def when(reply) -> float:
    """How long after now it ran out of time."""
    began_s = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        await reply
    return time.monotonic() - began_s


async def test_each_command_has_its_own_timeout(make, server, observer):  # noqa: F811
    pipeline = make(0.5)
    await pipeline.ask(PING)
    server.pause()
    waiting = []
    try:
        for _ in range(5):
            waiting += [asyncio.create_task(when(pipeline.ask(PING))) for _ in range(4)]
            await asyncio.sleep(0.08)
        took = await asyncio.gather(*waiting)
    finally:
        server.resume()
    assert all(0.49 < took_s < 0.8 for took_s in took), took
    assert await pipeline.ask(echo("after")) == b"after"


async def test_a_slow_server_harms_those_only_who_wait_too_long(make, server, observer):  # noqa: F811
    pipeline = make(0.8)
    await pipeline.ask(PING)
    server.pause()
    try:
        early = asyncio.create_task(when(pipeline.ask(command("INCR", "early"))))
        await asyncio.sleep(0.4)
        late = pipeline.ask(command("INCR", "late"))
        assert await early < 1.1
        assert not late.done()
    finally:
        server.resume()
    # Over the line of the other, in its turn.
    assert await late == 1
    assert observer.get("early") == b"1"


async def test_after_a_timeout_another_connection_is_used_and_the_old_one_ends(
    make,
    observer,  # noqa: F811
    opened,  # noqa: F811
):
    pipeline = make(0.1)
    assert await outcome(pipeline.ask(BLOCKED)) is redis.TimeoutError
    assert await pipeline.ask(echo("at once")) == b"at once"
    assert opened() == 2
    await soon(lambda: clients(observer) == 1)
    assert await pipeline.ask(PING) == b"PONG"
    assert opened() == 2


async def test_who_waits_behind_a_timeout_may_still_be_answered_while_others_go_ahead(
    make,
    observer,  # noqa: F811
):
    pipeline = make(0.3)
    blocked = asyncio.create_task(when(pipeline.ask(BLOCKED)))
    await asyncio.sleep(0.15)
    behind = pipeline.ask(echo("behind"))
    await blocked
    assert await pipeline.ask(echo("ahead")) == b"ahead"
    observer.rpush("nothing", "something")
    assert await behind == b"behind"
    await soon(lambda: clients(observer) == 1)


async def test_a_frozen_server_is_left_with_no_connection_that_waits_for_ever(make, server):  # noqa: F811
    """Not even one that it never greeted."""
    pipeline = make(0.05)
    await pipeline.ask(PING)
    server.pause()
    try:
        for _ in range(6):
            assert await outcome(pipeline.ask(PING)) is redis.TimeoutError
        await soon(lambda: asyncio.all_tasks() == {asyncio.current_task()}, 2)
        await soon(lambda: not pipeline._lines, 2)
    finally:
        server.resume()
    assert await pipeline.ask(PING) == b"PONG"


async def test_nor_one_that_it_does_not_read(make, server, observer):  # noqa: F811
    """What was still to be written is not sent when the server goes on, as none waits for it."""
    pipeline = make(0.2)
    await pipeline.ask(PING)
    server.pause()
    try:
        large = [pipeline.ask(command("SET", f"large{n}", "x" * 8_000_000)) for n in range(3)]
        assert await outcomes(*large) == [redis.TimeoutError] * 3
        await soon(lambda: asyncio.all_tasks() == {asyncio.current_task()}, 0.5)
    finally:
        server.resume()
    assert await pipeline.ask(PING) == b"PONG"
    await soon(lambda: clients(observer) == 1)
    assert observer.keys() == []


async def test_no_more_than_so_many_wait(make, server, monkeypatch):  # noqa: F811
    monkeypatch.setattr(pipelining, "MOST_IN_FLIGHT", 5)
    pipeline = make(0.5)
    await pipeline.ask(PING)
    waiting = [pipeline.ask(echo(n)) for n in range(3)]
    await asyncio.sleep(0)
    waiting += [pipeline.ask(echo(n)) for n in range(3, 5)]
    with pytest.raises(redis.exceptions.MaxConnectionsError):
        pipeline.ask(PING)
    assert await asyncio.gather(*waiting) == [said(n) for n in range(5)]
    assert await pipeline.ask(PING) == b"PONG"


async def test_a_server_that_dies_fails_all_that_wait_at_once(make, server, observer):  # noqa: F811
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


async def test_a_restart_while_the_connection_is_idle_costs_no_check(limiter, server):  # noqa: F811
    target = Target(rule(quota=10), A)
    await limiter.acheck([target])
    server.kill()
    await asyncio.to_thread(server.start)
    assert (await limiter.acheck([target])).remaining == 9
    assert limiter.redis.breaker.failed_total == 0
    with server.client() as direct:
        assert evals(direct) == 1
    await limiter.aclose()


async def test_a_reply_that_nobody_asked_for_answers_nobody(make, proxy):  # noqa: F811
    pipeline = make(url=proxy.url)
    await pipeline.ask(PING)
    proxy.inject(b"+STRAY\r\n")
    await soon(lambda: not pipeline._lines)
    assert await pipeline.ask(echo("mine")) == b"mine"
    assert proxy.accepted == 2


async def test_a_demoted_primarys_refusal_leads_to_a_new_connection(
    make,
    server,  # noqa: F811
    demoted,  # noqa: F811
    proxy,  # noqa: F811
):
    proxy.upstream = demoted.port
    pipeline = make(0.3, url=proxy.url)
    await pipeline.ask(PING)
    proxy.upstream = server.port
    refused = pipeline.ask(command("INCR", "count"))
    beside = pipeline.ask(echo("beside"))
    assert await outcomes(refused, beside) == [redis.exceptions.ReadOnlyError, b"beside"]
    assert await pipeline.ask(command("INCR", "count")) == 1
    await soon(lambda: len(pipeline._lines) == 1)


async def test_after_a_failover_sentinel_leads_to_the_new_primary(replicated):  # noqa: F811
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


async def test_loops_in_threads_do_not_share(limiter, opened, proxy):  # noqa: F811
    target = Target(rule(quota=1000), A)
    together = threading.Barrier(2)

    async def site():
        together.wait()
        for _ in range(20):
            checks = [limiter.acheck([target]) for _ in range(10)]
            assert all(decision.allowed for decision in await asyncio.gather(*checks))

    await asyncio.gather(*[asyncio.to_thread(asyncio.run, site()) for _ in range(2)])
    assert proxy.accepted == 2
    assert (await limiter.acheck([target])).remaining == 1000 - 400 - 1
    await limiter.aclose()


async def test_closing_fails_what_waits_on_all_lines(make, observer):  # noqa: F811
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


async def test_retiring_ends_each_connection_with_the_last_who_waits_on_it(make, observer):  # noqa: F811
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


async def test_closing_fails_what_has_not_even_begun(make, opened):  # noqa: F811
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
async def test_short_loops_leave_nothing_behind(limiter, observer, short_loop):  # noqa: F811
    target = Target(rule(quota=1000), A)
    in_a_thread(lambda: [short_loop(limiter.acheck, target) for _ in range(20)])
    gc.collect()
    assert len(limiter.redis._pipelines) == 0
    await soon(lambda: clients(observer) == 0)


async def test_nor_does_one_that_ends_while_some_still_wait(limiter, server, observer):  # noqa: F811
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


@pytest.mark.parametrize("algorithm", [Algorithm.FIXED_WINDOW, Algorithm.SLIDING_LOG])
async def test_many_at_once_are_admitted_exactly_to_the_quota(make, server, observer, algorithm):  # noqa: F811
    limiter = make_limiter(server.url, redis_timeout_ms=5000)
    target = Target(rule(algorithm, quota=4321, window_us=3_600_000_000), A)
    admitted = 0

    async def caller():
        nonlocal admitted
        for _ in range(200):
            decision = await limiter.acheck([target])
            assert not any(verdict.degraded for verdict in decision.verdicts)
            admitted += decision.allowed

    await asyncio.gather(*[caller() for _ in range(64)])
    assert admitted == 4321
    await limiter.aclose()
    limiter.close()
