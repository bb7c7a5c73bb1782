"""The async transport where a server is slow or frozen: who waits too long, and who behind."""

from __future__ import annotations

import asyncio

import pytest
import redis

from apps.ratelimits.storage import pipelining
from apps.ratelimits.storage.packing import command

from .connecting import PING, clients, echo, observer, opened, said, server
from .pipelines import BLOCKED, complaints, make, outcome, outcomes, soon, when

__all__ = ["complaints", "make", "observer", "opened", "server"]


async def test_each_command_has_its_own_timeout(make, server, observer):
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


async def test_a_slow_server_harms_those_only_who_wait_too_long(make, server, observer):
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
    make, observer, opened
):
    pipeline = make(0.1)
    assert await outcome(pipeline.ask(BLOCKED)) is redis.TimeoutError
    assert await pipeline.ask(echo("at once")) == b"at once"
    assert opened() == 2
    await soon(lambda: clients(observer) == 1)
    assert await pipeline.ask(PING) == b"PONG"
    assert opened() == 2


async def test_who_waits_behind_a_timeout_may_still_be_answered_while_others_go_ahead(
    make, observer
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


async def test_a_frozen_server_is_left_with_no_connection_that_waits_for_ever(make, server):
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


async def test_nor_one_that_it_does_not_read(make, server, observer):
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


async def test_no_more_than_so_many_wait(make, server, monkeypatch):
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
