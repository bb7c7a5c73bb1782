"""A server that may be paused and killed, connections to it, and ways to watch both."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pytest
import redis
import redis.sentinel

from apps.ratelimits.storage.connections import Connections
from apps.ratelimits.storage.limiter import RateLimiter
from apps.ratelimits.storage.packing import command
from apps.ratelimits.storage.topology import Topology
from tests.proxies import Proxy
from tests.servers import (
    RedisProcess,
    sentinel,
)

from .limiters import make_limiter

T = TypeVar("T")
PING = command("PING")


def echo(text: object) -> bytes:
    return command("ECHO", str(text))


def said(text: object) -> bytes:
    return str(text).encode()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    """May be paused, killed and flushed: nobody else's."""
    started = RedisProcess().start()
    yield started
    started.stop()


@pytest.fixture
def observer(server: RedisProcess) -> Iterator[redis.Redis]:
    """Connected before the test, so that it never counts as one of the test's."""
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def proxy(server: RedisProcess) -> Iterator[Proxy]:
    with contextlib.closing(Proxy(server.port)) as made:
        yield made


@pytest.fixture
def opened(observer: redis.Redis) -> Callable[[], int]:
    """How many connections the test has opened so far."""

    def connects() -> int:
        return int(observer.info("stats")["total_connections_received"])

    before = connects()
    return lambda: connects() - before


@pytest.fixture
def make(server: RedisProcess) -> Iterator[Callable[..., Connections]]:
    """``Connections`` to the server, or to ``url``."""
    made: list[Connections] = []

    def make(
        most: int = 10,
        *,
        timeout_s: float = 5.0,
        reply_s: float | None = None,
        url: str | None = None,
    ) -> Connections:
        timeout_ms = int((reply_s or timeout_s) * 1000)
        topology = Topology.parse(url or server.url, timeout_ms=timeout_ms, max_connections=most)
        made.append(Connections(topology.pool(), most, timeout_s))
        return made[-1]

    yield make
    for connections_ in made:
        connections_.close()


@pytest.fixture
def limiter(server: RedisProcess, observer: redis.Redis) -> Iterator[RateLimiter]:
    made = make_limiter(server.url, redis_timeout_ms=2000)
    yield made
    made.close()


def eventually(condition: Callable[[], object], within_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true"
        time.sleep(0.005)


def clients(observer: redis.Redis) -> int:
    """Connections that are open, without the observer's own."""
    return len(observer.client_list()) - 1


def blocked(observer: redis.Redis) -> int:
    """Those that wait on the server: connected, and asked."""
    return int(observer.info("clients")["blocked_clients"])


def keep(made: Connections, number: int) -> None:
    """Have that many connections open and free."""
    together = threading.Barrier(number)

    def ask() -> None:
        together.wait()
        # Blocks until all of them are in use.
        made.ask(command("XREAD", "BLOCK", 50, "STREAMS", "nothing", "$"))

    in_threads(number, ask)


def in_threads(number: int, work: Callable[[], T]) -> list[T]:
    with ThreadPoolExecutor(number) as pool:
        return [future.result() for future in [pool.submit(work) for _ in range(number)]]


def talk(made: Connections, who: str, rounds: int = 200) -> bool:
    return all(made.ask(echo(f"{who} {n}")) == said(f"{who} {n}") for n in range(rounds))


def in_a_fork(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    """``work`` in a child that succeeds where it returns true; waited for by ``join``."""
    child = multiprocessing.get_context("fork").Process(target=lambda: os._exit(not work()))
    child.start()
    return child


@contextlib.contextmanager
def one_waits(
    made: Connections, observer: redis.Redis
) -> Iterator[tuple[Future[object], Future[object]]]:
    """``made`` has one connection, on which a thread waits for the list ``go``; another thread
    waits for the connection, to send PING."""
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(made.ask, command("BLPOP", "go", 0))
        eventually(lambda: blocked(observer) == 1)
        one_more = pool.submit(made.ask, PING)
        eventually(lambda: made._waiting)
        yield busy, one_more


forks = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture
def replicated() -> Iterator[tuple[RedisProcess, RedisProcess, RedisProcess]]:
    """A primary, its replica, and a sentinel that knows of both."""
    primary = RedisProcess(options=["--repl-diskless-sync-delay", "0"]).start()
    replica = RedisProcess(options=["--replicaof", f"127.0.0.1 {primary.port}"]).start()
    watcher = sentinel("valkey", primary)
    try:
        with replica.client() as client:
            eventually(lambda: client.info("replication")["master_link_status"] == "up")
        watcher.start()
        yield primary, replica, watcher
    finally:
        for process in (watcher, replica, primary):
            process.stop()


def lose(primary: RedisProcess, replica: RedisProcess, sentinels: redis.sentinel.Sentinel) -> None:
    """Until the sentinel names the replica."""

    def moved() -> bool:
        with contextlib.suppress(redis.sentinel.MasterNotFoundError):
            return bool(sentinels.discover_master("main")[1] == replica.port)
        return False

    (asked,) = sentinels.sentinels
    eventually(lambda: asked.sentinel_slaves("main"))
    primary.pause()
    eventually(moved, 10)
    with replica.client() as direct:
        eventually(lambda: direct.info("replication")["role"] == "master")


@pytest.fixture
def demoted(observer: redis.Redis) -> Iterator[RedisProcess]:
    """A replica, as an old primary is once it is back."""
    started = RedisProcess(options=["--replicaof", "127.0.0.1 9"]).start()
    yield started
    started.stop()


def evals(observer: redis.Redis) -> int:
    return int(observer.info("commandstats").get("cmdstat_eval", {}).get("calls", 0))
