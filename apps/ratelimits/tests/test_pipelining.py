"""The async transport against real servers: one write a turn, and nobody harmed by another."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest
import redis

from apps.ratelimits.policy.rules import Algorithm
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.packing import command

from .connecting import PING, clients, echo, observer, opened, proxy, said, server
from .limiters import A, make_limiter, rule
from .pipelines import complaints, limiter, make, outcome

__all__ = ["complaints", "limiter", "make", "observer", "opened", "proxy", "server"]


async def test_the_checks_of_one_turn_leave_in_one_write_over_one_connection(limiter, proxy):
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


async def test_checks_that_arrive_before_there_is_a_connection_share_it(limiter, proxy):
    target = Target(rule(quota=1000), A)
    decisions = await asyncio.gather(*[limiter.acheck([target]) for _ in range(30)])
    assert sorted(decision.remaining for decision in decisions) == list(range(970, 1000))
    assert proxy.accepted == 1
    await limiter.aclose()


@pytest.mark.parametrize("seed", range(3))
async def test_replies_are_matched_in_order_whatever_they_are(make, observer, seed):
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


async def test_who_lost_the_script_in_the_middle_of_a_turn_harms_nobody(limiter, observer):
    target = Target(rule(quota=100), A)
    await limiter.acheck([target])
    observer.script_flush()
    decisions = await asyncio.gather(*[limiter.acheck([target]) for _ in range(20)])
    assert sorted(decision.remaining for decision in decisions) == list(range(79, 99))
    assert limiter.redis.breaker.failed_total == 0
    await limiter.aclose()


@pytest.mark.parametrize("seed", range(3))
async def test_cancelling_some_harms_no_other(make, observer, seed):
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


async def test_what_was_cancelled_before_it_left_is_not_sent(make, observer):
    pipeline = make()
    await pipeline.ask(PING)
    replies = [pipeline.ask(command("INCR", f"count{n}")) for n in range(6)]
    for reply in replies[::2]:
        reply.cancel()
    assert [await reply for reply in replies[1::2]] == [1, 1, 1]
    assert sorted(observer.keys()) == [b"count1", b"count3", b"count5"]


async def test_a_cancelled_check_has_its_trip_behind_it_or_is_not_charged(limiter, observer):
    target = Target(rule(quota=100), A)
    await limiter.acheck([target])
    checks = [asyncio.create_task(limiter.acheck([target])) for _ in range(10)]
    await asyncio.sleep(0)
    for check in checks[:5]:
        check.cancel()
    await asyncio.wait(checks)
    assert (await limiter.acheck([target])).remaining == 99 - 5 - 1
    await limiter.aclose()


async def test_loops_in_threads_do_not_share(limiter, opened, proxy):
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


@pytest.mark.parametrize("algorithm", [Algorithm.FIXED_WINDOW, Algorithm.SLIDING_LOG])
async def test_many_at_once_are_admitted_exactly_to_the_quota(make, server, observer, algorithm):
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
