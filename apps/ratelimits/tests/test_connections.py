"""The sync transport against real servers: how often it connects, and who waits for whom."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from apps.ratelimits.policy.rules import Algorithm
from apps.ratelimits.storage.connections import Connections
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.packing import command
from apps.ratelimits.storage.topology import Topology

from .connecting import (
    PING,
    blocked,
    clients,
    echo,
    eventually,
    in_threads,
    keep,
    limiter,
    make,
    observer,
    one_waits,
    opened,
    said,
    server,
)
from .limiters import A, rule

__all__ = ["limiter", "make", "observer", "opened", "server"]


def test_checks_in_sequence_use_one_connection(limiter, opened):
    target = Target(rule(Algorithm.TOKEN_BUCKET, quota=1000), A)
    assert all(limiter.check([target]).allowed for _ in range(30))
    assert opened() == 1


def test_what_was_used_last_is_used_first(make, observer):
    made = make()
    keep(made, 3)
    for _ in range(5):
        made.ask(PING)
    assert [client["cmd"] for client in observer.client_list()].count("ping") == 1


def test_threads_use_one_connection_each_at_most(limiter, opened):
    target = Target(rule(quota=1000), A)
    together = threading.Barrier(6)

    def checks():
        together.wait()
        return [limiter.check([target]).allowed for _ in range(40)]

    assert in_threads(6, checks) == [[True] * 40] * 6
    assert 1 <= opened() <= 6
    assert limiter.peek([target]).remaining == 1000 - 240


def test_there_are_never_more_than_the_bound_and_each_gets_its_own_reply(make, opened):
    made, together = make(3), threading.Barrier(9)

    def talk():
        together.wait()
        me = threading.get_ident()
        return all(made.ask(echo(f"{me} {n}")) == said(f"{me} {n}") for n in range(100))

    assert all(in_threads(9, talk))
    assert 1 <= opened() <= 3


def test_one_more_than_the_bound_waits_until_one_comes_free(make, observer, opened):
    made = make(1)
    with one_waits(made, observer) as (busy, one_more):
        observer.rpush("go", "now")
        assert busy.result(5) == [b"go", b"now"]
        assert one_more.result(5) == b"PONG"
    assert opened() == 1


def test_who_waits_is_told_when_the_one_in_use_is_lost(make, observer):
    made = make(1)
    with one_waits(made, observer) as (busy, one_more):
        observer.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(redis.ConnectionError):
            busy.result(5)
        assert one_more.result(5) == b"PONG"


def test_one_more_than_the_bound_is_refused_in_time(make, observer):
    made = make(1)
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(made.ask, command("BLPOP", "go", 0))
        eventually(lambda: blocked(observer) == 1)
        began_s = time.monotonic()
        with pytest.raises(redis.exceptions.MaxConnectionsError):
            made.ask(PING, within_s=0.1)
        assert 0.1 <= time.monotonic() - began_s < 0.4
        observer.rpush("go", "now")
        busy.result(5)
    assert made.ask(PING) == b"PONG"


def test_who_asks_without_pause_does_not_starve_who_waits(make):
    made, over = make(1, timeout_s=1.0), threading.Event()

    def greedy():
        while not over.is_set():
            made.ask(PING)

    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(greedy) for _ in range(2)]
        try:
            for n in range(50):
                assert made.ask(echo(n)) == said(n)
        finally:
            over.set()
        for other in others:
            other.result(5)


def test_who_asks_may_take_what_was_about_to_be_kept(make):
    """It does so without the lock: what one thread has seen free another may have by then."""

    class Taken(list):
        def __bool__(self):
            return True

    made = make(1)
    made.ask(PING)
    taken, made._free = made._free, Taken()
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(made.ask, PING)
        eventually(lambda: made._waiting)
        made._tell()
        made._give_back(taken.pop()[0])
        assert waits.result(5) == b"PONG"


def test_closing_closes_what_is_free(observer, make):
    made = make()
    keep(made, 3)
    assert clients(observer) == 3
    made.close()
    eventually(lambda: clients(observer) == 0)
    assert made.ask(PING) == b"PONG"


@pytest.fixture
def no_collection():
    gc.disable()
    yield
    gc.enable()


def test_connections_that_nobody_holds_any_more_are_closed(server, observer, no_collection):
    pool = Topology.parse(server.url, timeout_ms=1000, max_connections=5).pool()
    made = Connections(pool, 5, 1.0)
    keep(made, 3)
    assert clients(observer) == 3
    del made
    eventually(lambda: clients(observer) == 0)
