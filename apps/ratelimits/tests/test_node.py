"""One server that fails: what a request pays for it, and when it is asked again."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import threading
import time

import pytest
import redis

from apps.ratelimits.policy.rules import Algorithm
from apps.ratelimits.storage import connections, pipelining
from apps.ratelimits.storage.errors import BreakerOpen, Unavailable
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.packing import command
from tests.proxies import Proxy
from tests.servers import RedisProcess, flavours, over_tls, with_password

from .connecting import eventually, in_threads
from .limiters import A, make_limiter, rule

TIMEOUT_MS = 400
SLACK_S = 0.35
"""For a machine that has more to do. Two timeouts would be more."""

PING = command("PING")


@pytest.fixture
def server():
    """May be paused, killed and filled: nobody else's."""
    started = RedisProcess().start()
    yield started
    started.stop()


@pytest.fixture
def make(server):
    made = []

    def make(url="", **changes):
        options = {"redis_timeout_ms": TIMEOUT_MS, "breaker_open_ms": 100, **changes}
        made.append(make_limiter(url or server.url, **options))
        return made[-1]

    yield make
    for limiter in made:
        limiter.close()


@pytest.fixture
def node(make):
    return make().redis


def took_s(ask) -> float:
    began_s = time.monotonic()
    with pytest.raises(Unavailable):
        ask()
    return time.monotonic() - began_s


def one_timeout(seconds: float) -> bool:
    return seconds < TIMEOUT_MS / 1000 + SLACK_S


def test_a_silent_server_costs_one_timeout(node, server):
    node.ask(PING)
    server.pause()
    assert one_timeout(took_s(lambda: node.ask(PING)))


def test_so_it_does_where_nothing_is_connected_yet(node, server):
    """Its kernel takes the connection, and nobody shakes hands."""
    server.pause()
    assert one_timeout(took_s(lambda: node.ask(PING)))


def test_so_it_does_for_who_waited_for_a_connection_first(make, server):
    node = make(redis_max_connections=1, breaker_failures=100).redis
    node.ask(PING)
    server.pause()
    assert all(one_timeout(each) for each in in_threads(4, lambda: took_s(lambda: node.ask(PING))))


def test_so_it_does_where_the_script_is_lost_and_then_the_server(make, server):
    """The second call has what the first one left of the time."""
    with contextlib.closing(Proxy(server.port)) as proxy:
        node = make(proxy.url).redis
        node.ask(PING)
        proxy.freeze_after(1)
        evalsha = command("EVALSHA", "0" * 40, 0)
        assert one_timeout(took_s(lambda: node.ask(evalsha, "refund")))


def test_an_async_check_of_a_silent_server_costs_one_timeout(node, server):
    async def scenario():
        await node.aask(PING)
        server.pause()
        began_s = time.monotonic()
        with pytest.raises(Unavailable):
            await node.aask(PING)
        cost_s = time.monotonic() - began_s
        server.resume()
        await node.aclose()
        return cost_s

    assert one_timeout(asyncio.run(scenario()))


@pytest.mark.parametrize("way", ["sync", "async"])
def test_several_slots_that_cannot_be_given_back_cost_one_timeout(make, server, way):
    limiter = make(breaker_failures=100)

    async def scenario():
        targets = [Target(rule(Algorithm.CONCURRENCY, quota=5, number=n), A) for n in range(1, 4)]
        decision = await limiter.acheck(targets)
        limiter.redis.ask(PING)
        server.pause()
        began_s = time.monotonic()
        if way == "sync":
            limiter.release(decision.held)
        else:
            await limiter.arelease(decision.held)
        cost_s = time.monotonic() - began_s
        server.resume()
        await limiter.aclose()
        return cost_s

    assert one_timeout(asyncio.run(scenario()))


def test_a_reply_is_no_timeout_where_the_event_loop_was_busy(make):
    """It lies in the socket: whoever is late is we."""
    limiter = make()

    async def scenario():
        target = Target(rule(quota=100), A)
        await limiter.acheck([target])
        asked = [asyncio.create_task(limiter.acheck([target])) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(2 * TIMEOUT_MS / 1000)
        decisions = await asyncio.gather(*asked)
        await limiter.aclose()
        return decisions

    decisions = asyncio.run(scenario())
    assert not any(verdict.degraded for d in decisions for verdict in d.verdicts)
    assert limiter.redis.breaker.failed_total == 0


def test_a_reply_that_is_there_after_all_is_read(node, monkeypatch):
    """As where this process did not run between its coming and the end of the wait."""
    node.ask(PING)
    read_again = connections.read_again

    def a_little_later(connection):
        time.sleep(0.3)
        return read_again(connection)

    monkeypatch.setattr(connections, "read_again", a_little_later)
    assert node.ask(command("BLPOP", "nothing", TIMEOUT_MS / 1000 + 0.1)) is None
    assert node.breaker.failed_total == 0
    assert node.ask(command("ECHO", "next")) == b"next"


def test_the_reply_to_the_command_before_it_is_never_taken_for_its_own(node, server, monkeypatch):
    """As after ASKING, on a cluster: both replies come just behind the end of the wait."""
    node.ask(PING)
    read_again = connections.read_again

    def a_little_later(connection):
        server.resume()
        time.sleep(0.3)
        return read_again(connection)

    monkeypatch.setattr(connections, "read_again", a_little_later)
    server.pause()
    with contextlib.suppress(Unavailable):
        reply = node.ask(command("ECHO", "mine"), within_s=0.2, before=PING)
        assert reply == b"mine"
    server.resume()
    assert node.ask(command("ECHO", "next")) == b"next"


def test_while_it_is_open_a_request_pays_next_to_nothing(make, server):
    limiter = make(breaker_failures=2, breaker_open_ms=60_000)
    target = Target(rule(Algorithm.TOKEN_BUCKET, quota=1_000_000), A)
    server.pause()
    while not limiter.redis.breaker.is_open:
        limiter.check([target])
    costs_s = []
    for _ in range(200):
        began_s = time.perf_counter()
        assert limiter.check([target]).verdicts[0].degraded
        costs_s.append(time.perf_counter() - began_s)
    assert statistics.median(costs_s) < 0.001


@pytest.mark.parametrize("way", ["sync", "async"])
def test_it_is_exact_again_soon_after_it_returns(make, server, way):
    limiter = make(breaker_failures=2, breaker_open_ms=1_000)
    target = Target(rule(quota=1_000_000), A)

    async def check():
        return await limiter.acheck([target])

    def degraded() -> bool:
        decision = limiter.check([target]) if way == "sync" else asyncio.run(check())
        return decision.verdicts[0].degraded

    assert not degraded()
    server.pause()
    while not limiter.redis.breaker.is_open:
        degraded()
    server.resume()
    returned_s = time.monotonic()
    eventually(lambda: not degraded(), 3)
    assert time.monotonic() - returned_s < 2


def test_the_probes_connection_is_the_next_requests(make, server):
    limiter = make(breaker_failures=1)
    server.pause()
    with pytest.raises(Unavailable):
        limiter.redis.ask(PING)
    server.resume()
    eventually(lambda: not limiter.redis.breaker.is_open)
    with server.client() as observer:
        before = observer.info("stats")["total_connections_received"]
        limiter.redis.ask(PING)
        assert observer.info("stats")["total_connections_received"] == before


@pytest.mark.parametrize("flavour", flavours())
def test_a_full_server_is_not_taken_for_well(flavour, make):
    """It answers PING all the while."""
    server = RedisProcess(flavour).start()
    limiter = make(server.url, breaker_failures=2)
    try:
        with server.client() as observer:
            observer.set("fill", "x" * 3_000_000)
            observer.config_set("maxmemory", "1mb")
            for _ in range(2):
                with pytest.raises(Unavailable):
                    limiter.redis.ask(command("SET", "k", "v"))
            time.sleep(0.4)
            with pytest.raises(BreakerOpen):
                limiter.redis.ask(PING)
            observer.config_set("maxmemory", "0")
            eventually(lambda: not limiter.redis.breaker.is_open)
    finally:
        server.stop()


def test_a_demoted_primary_is_not_taken_for_well(make, server):
    limiter = make(breaker_failures=1)
    with server.client() as observer:
        observer.replicaof("127.0.0.1", 9)
        with pytest.raises(Unavailable):
            limiter.redis.ask(command("SET", "k", "v"))
        time.sleep(0.3)
        assert limiter.redis.breaker.is_open
        observer.replicaof("NO", "ONE")
    eventually(lambda: not limiter.redis.breaker.is_open)


@pytest.fixture
def far_away(server, monkeypatch):
    """As over TLS and a long way: connecting takes longer than a reply may."""
    for module in (connections, pipelining):
        monkeypatch.setattr(module, "CONNECT_S", 5)
    with contextlib.closing(Proxy(server.port, connect_s=2 * TIMEOUT_MS / 1000)) as proxy:
        yield proxy


def test_connecting_that_takes_longer_than_a_reply_may_is_done_for_the_next(make, far_away):
    """No request waits for it, and one later finds it."""
    limiter = make(far_away.url, breaker_failures=100)
    assert one_timeout(took_s(lambda: limiter.redis.ask(PING)))
    time.sleep(0.6)
    assert limiter.redis.ask(PING) == b"PONG"
    assert far_away.accepted == 1


def test_so_it_is_in_async(make, far_away):
    limiter = make(far_away.url, breaker_failures=100)

    async def scenario():
        with pytest.raises(Unavailable):
            await limiter.redis.aask(PING)
        await asyncio.sleep(0.6)
        reply = await limiter.redis.aask(PING)
        await limiter.aclose()
        return reply

    assert asyncio.run(scenario()) == b"PONG"
    assert far_away.accepted == 1


@pytest.mark.skipif("redis" not in flavours(), reason="no redis-server, which alone speaks TLS")
def test_over_tls_a_silent_server_costs_one_timeout_and_is_exact_again(make):
    server = over_tls("redis").start()
    try:
        limiter = make(server.url, breaker_failures=2)
        target = Target(rule(quota=100), A)
        assert not limiter.check([target]).verdicts[0].degraded
        server.pause()
        assert one_timeout(took_s(lambda: limiter.redis.ask(PING)))
        limiter.check([target])
        assert limiter.redis.breaker.is_open
        server.resume()
        eventually(lambda: not limiter.check([target]).verdicts[0].degraded)
    finally:
        server.stop()


def test_a_refused_connection_is_told_at_once(make, server):
    limiter = make(redis_timeout_ms=5_000, breaker_failures=100)
    server.kill()
    assert max(in_threads(4, lambda: took_s(lambda: limiter.redis.ask(PING)))) < 1


def test_a_wrong_password_is_told_at_once(make):
    server = with_password("valkey").start()
    try:
        limiter = make(f"redis://:wrong@127.0.0.1:{server.port}/0", redis_timeout_ms=5_000)
        assert took_s(lambda: limiter.redis.ask(PING)) < 1
    finally:
        server.stop()


def test_closing_ends_the_probes(make, server):
    limiter = make(breaker_failures=1)
    server.pause()
    with pytest.raises(Unavailable):
        limiter.redis.ask(PING)
    limiter.close()
    name = f"ratelimits-probe-127.0.0.1:{server.port}"
    eventually(lambda: name not in {thread.name for thread in threading.enumerate()})


@pytest.mark.parametrize("way", ["sync", "async"])
def test_what_is_on_its_way_to_a_node_that_is_retired_has_its_reply(node, server, way):
    """As where its last slot has moved to another."""
    blocked = command("BLPOP", "go", 0)

    async def scenario():
        asked = asyncio.to_thread(node.ask, blocked) if way == "sync" else node.aask(blocked)
        asked = asyncio.create_task(asked)
        with server.client() as observer:
            while not observer.info("clients")["blocked_clients"]:
                await asyncio.sleep(0.005)
            node.retire()
            await asyncio.sleep(0)
            observer.rpush("go", "now")
        reply = await asked
        await node.aclose()
        return reply

    assert asyncio.run(scenario()) == [b"go", b"now"]
    assert node.breaker.failed_total == 0


def test_an_error_of_ours_is_no_failure_of_the_server(node):
    for _ in range(10):
        with pytest.raises(redis.ResponseError):
            node.ask(command("EVAL", "error('ours')", 0))
    assert node.breaker.failed_total == 0
