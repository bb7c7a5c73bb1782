"""The sync transport in each kind of worker: forks, threads under ASGI, greenlets."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from functools import partial

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async

from apps.ratelimits.storage.limiter import Target

from .connecting import (
    forks,
    in_a_fork,
    keep,
    limiter,
    make,
    observer,
    one_waits,
    opened,
    server,
    talk,
)
from .limiters import A, rule

__all__ = ["limiter", "make", "observer", "opened", "server"]


@forks
def test_a_forked_child_opens_its_own_and_no_reply_is_mixed_up(make, opened):
    made = make()
    keep(made, 2)
    assert opened() == 2
    children = [in_a_fork(partial(talk, made, f"child {n}")) for n in range(2)]
    assert talk(made, "parent")
    for child in children:
        child.join(10)
        assert child.exitcode == 0
    # Their ends have not closed the parent's.
    assert talk(made, "parent")
    assert opened() == 2 + len(children)


@forks
def test_a_child_may_use_the_bound_anew_whatever_its_parents_threads_do(make, observer):
    made = make(1)
    with one_waits(made, observer) as (busy, one_more):
        # As when another thread is just at it.
        with made._changed:
            child = in_a_fork(partial(talk, made, "child"))
        child.join(10)
        observer.rpush("go", "now")
        assert child.exitcode == 0
        assert busy.result(5) == [b"go", b"now"]
        assert one_more.result(5) == b"PONG"


@pytest.mark.parametrize("thread_sensitive", [True, False])
def test_sync_views_under_asgi_use_connections_again(limiter, opened, thread_sensitive):
    """Each request has a thread of its own, as under Django's handler."""
    target = Target(rule(quota=1000), A)
    check = sync_to_async(limiter.check, thread_sensitive=thread_sensitive)

    async def request():
        async with ThreadSensitiveContext():
            assert (await check([target])).allowed

    async def site():
        for _ in range(10):
            await request()
        in_sequence = opened()
        for _ in range(5):
            await asyncio.gather(*[request() for _ in range(4)])
        return in_sequence

    assert asyncio.run(site()) == 1
    assert asyncio.run(site()) <= 4
    assert opened() <= 4
    assert limiter.peek([target]).remaining == 1000 - 60


UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import json, sys, gevent
from apps.ratelimits.storage.connections import Connections
from apps.ratelimits.storage.packing import command
from apps.ratelimits.storage.topology import Topology

client = Topology.parse(sys.argv[1], timeout_ms=5000, max_connections=4).client()
made = Connections(client.connection_pool, 4, 5.0)

def echo(text):
    return made.ask(command("ECHO", text)) == text.encode()

def connects():
    return int(client.info("stats")["total_connections_received"]) - before

before = int(client.info("stats")["total_connections_received"])
found = {}
found["in sequence"] = all(gevent.spawn(echo, str(n)).get() for n in range(20)), connects()

def talk(who):
    # Where a reply is there at once, no greenlet would ever wait for another.
    waited = made.ask(command("BLPOP", "never", 0.02)) is None
    return waited and all(echo(f"{who} {n}") for n in range(30))

jobs = gevent.joinall([gevent.spawn(talk, who) for who in range(20)])
found["at once"] = all(job.get() for job in jobs), connects()

def broken_off():
    with gevent.Timeout(0.05, False):
        made.ask(command("BLPOP", "late", 0))

gevent.joinall([gevent.spawn(broken_off) for _ in range(4)])
client.rpush("late", *"1234")
jobs = gevent.joinall([gevent.spawn(talk, who) for who in range(8)])
found["after a timeout"] = all(job.get() for job in jobs), made._open
print(json.dumps(found))
"""


def test_greenlets_use_connections_again_and_no_more_than_the_bound(server, observer):
    ran = subprocess.run(
        [sys.executable, "-c", UNDER_GEVENT, server.url],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["in sequence"] == [True, 1]
    assert found["at once"] == [True, 4]
    assert found["after a timeout"] == [True, 4]
