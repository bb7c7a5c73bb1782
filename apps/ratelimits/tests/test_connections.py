"""The sync transport against real servers: how often it connects, and what it never mixes up."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import redis
import redis.sentinel
from asgiref.sync import ThreadSensitiveContext, sync_to_async

from apps.ratelimits.policy.rules import Algorithm
from apps.ratelimits.storage import connections
from apps.ratelimits.storage.connections import Connections
from apps.ratelimits.storage.limiter import RateLimiter, Target
from apps.ratelimits.storage.packing import command
from apps.ratelimits.storage.topology import Topology
from tests.proxies import Proxy
from tests.servers import (
    RedisProcess,
    flavours,
    on_unix_socket,
    over_tls,
    plain,
    sentinel,
    with_password,
)

from .limiters import A, make_limiter, rule

PING = command("PING")


def echo(text) -> bytes:
    return command("ECHO", str(text))


def said(text) -> bytes:
    return str(text).encode()


@pytest.fixture(scope="module")
def server():
    """May be paused, killed and flushed: nobody else's."""
    started = RedisProcess().start()
    yield started
    started.stop()


@pytest.fixture
def observer(server):
    """Connected before the test, so that it never counts as one of the test's."""
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def proxy(server):
    with contextlib.closing(Proxy(server.port)) as made:
        yield made


@pytest.fixture
def opened(observer):
    """How many connections the test has opened so far."""

    def connects() -> int:
        return int(observer.info("stats")["total_connections_received"])

    before = connects()
    return lambda: connects() - before


@pytest.fixture
def make(server):
    """``Connections`` to the server, or to ``url``."""
    made = []

    def make(most=10, *, timeout_s=5.0, reply_s=None, url=None):
        timeout_ms = int((reply_s or timeout_s) * 1000)
        topology = Topology.parse(url or server.url, timeout_ms=timeout_ms, max_connections=most)
        made.append(Connections(topology.pool(), most, timeout_s))
        return made[-1]

    yield make
    for connections_ in made:
        connections_.close()


@pytest.fixture
def limiter(server, observer):
    made = make_limiter(server.url, redis_timeout_ms=2000)
    yield made
    made.close()


def eventually(condition, within_s=5.0):
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true"
        time.sleep(0.005)


def clients(observer) -> int:
    """Connections that are open, without the observer's own."""
    return len(observer.client_list()) - 1


def blocked(observer) -> int:
    """Those that wait on the server: connected, and asked."""
    return int(observer.info("clients")["blocked_clients"])


def keep(made: Connections, number: int) -> None:
    """Have that many connections open and free."""
    together = threading.Barrier(number)

    def ask():
        together.wait()
        # Blocks until all of them are in use.
        made.ask(command("XREAD", "BLOCK", 50, "STREAMS", "nothing", "$"))

    in_threads(number, ask)


def in_threads(number, work):
    with ThreadPoolExecutor(number) as pool:
        return [future.result() for future in [pool.submit(work) for _ in range(number)]]


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
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(made.ask, command("BLPOP", "go", 0))
        eventually(lambda: blocked(observer) == 1)
        one_more = pool.submit(made.ask, PING)
        eventually(lambda: made._waiting)
        observer.rpush("go", "now")
        assert busy.result(5) == [b"go", b"now"]
        assert one_more.result(5) == b"PONG"
    assert opened() == 1


def test_who_waits_is_told_when_the_one_in_use_is_lost(make, observer):
    made = make(1)
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(made.ask, command("BLPOP", "go", 0))
        eventually(lambda: blocked(observer) == 1)
        one_more = pool.submit(made.ask, PING)
        eventually(lambda: made._waiting)
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


def test_who_is_interrupted_while_waiting_takes_no_place(make, observer):
    made = make(1)
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(made.ask, command("BLPOP", "go", 0))
        eventually(lambda: blocked(observer) == 1)
        with interrupted(0.1), pytest.raises(Interrupted):
            made.ask(PING)
        assert not made._waiting
        one_more = pool.submit(made.ask, PING)
        eventually(lambda: made._waiting)
        observer.rpush("go", "now")
        busy.result(5)
        assert one_more.result(5) == b"PONG"


def talk(made: Connections, who: str, rounds: int = 200) -> bool:
    return all(made.ask(echo(f"{who} {n}")) == said(f"{who} {n}") for n in range(rounds))


def in_a_fork(work) -> multiprocessing.Process:
    """``work`` in a child that succeeds where it returns true; waited for by ``join``."""
    child = multiprocessing.get_context("fork").Process(target=lambda: os._exit(not work()))
    child.start()
    return child


forks = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


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
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(made.ask, command("BLPOP", "go", 0))
        eventually(lambda: blocked(observer) == 1)
        one_more = pool.submit(made.ask, PING)
        eventually(lambda: made._waiting)
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


WAYS = [
    pytest.param(make, flavour, id=f"{make.__name__}-{flavour}")
    for make in (plain, with_password, on_unix_socket, over_tls)
    for flavour in flavours()
    if make is not over_tls or flavour == "redis"
]


@pytest.mark.skipif("redis" not in flavours(), reason="no redis-server, which alone speaks TLS")
def test_tls_is_among_the_ways():
    assert over_tls in [way.values[0] for way in WAYS]


@pytest.mark.parametrize(("way", "flavour"), WAYS)
def test_a_limiter_decides_whatever_way_leads_to_the_server(way, flavour):
    server = way(flavour).start()
    limiter = make_limiter(server.url, redis_timeout_ms=2000)
    try:
        with server.client() as observer:
            before = observer.info("stats")["total_connections_received"]
            target = Target(rule(Algorithm.TOKEN_BUCKET, quota=2), A)
            decisions = [limiter.check([target]) for _ in range(3)]
            decisions.append(asyncio.run(once(limiter, target)))
            assert [d.allowed for d in decisions] == [True, True, False, False]
            assert not any(verdict.degraded for d in decisions for verdict in d.verdicts)
            # The sync one, the loop's, and the one that the client would have.
            assert observer.info("stats")["total_connections_received"] - before <= 2
    finally:
        limiter.close()
        server.stop()


async def once(limiter: RateLimiter, target: Target):
    limiter.forget(None)
    return await limiter.acheck([target])


@pytest.fixture
def replicated():
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


def lose(primary: RedisProcess, replica: RedisProcess, sentinels: redis.sentinel.Sentinel):
    """Until the sentinel names the replica."""

    def moved():
        with contextlib.suppress(redis.sentinel.MasterNotFoundError):
            return sentinels.discover_master("main")[1] == replica.port

    (asked,) = sentinels.sentinels
    eventually(lambda: asked.sentinel_slaves("main"))
    primary.pause()
    eventually(moved, 10)
    with replica.client() as direct:
        eventually(lambda: direct.info("replication")["role"] == "master")


def test_after_a_failover_the_limiter_talks_to_the_new_primary(replicated):
    """The old one is silent, not closed: its connections look as good as ever."""
    primary, replica, watcher = replicated
    sentinels = redis.sentinel.Sentinel([("127.0.0.1", watcher.port)], socket_timeout=1)
    url = f"redis+sentinel://127.0.0.1:{watcher.port}/main"
    limiter = make_limiter(url, redis_timeout_ms=300)
    target = Target(rule(quota=100), A)
    assert limiter.check([target]).remaining == 99
    keep(limiter.redis.connections, 4)

    lose(primary, replica, sentinels)
    with replica.client() as direct:
        decisions = [limiter.check([target]) for _ in range(6)]
        assert [d.verdicts[0].degraded for d in decisions] == [True] + [False] * 5
        assert direct.exists(limiter.keys.bucket(A))
    limiter.close()
    for each in sentinels.sentinels:
        each.close()


@pytest.fixture
def demoted(observer):
    """A replica, as an old primary is once it is back."""
    started = RedisProcess(options=["--replicaof", "127.0.0.1 9"]).start()
    yield started
    started.stop()


def test_a_demoted_primarys_refusal_leads_to_a_new_connection(server, demoted, make, proxy):
    """As where a name or an address moves to the new primary."""
    proxy.upstream = demoted.port
    made = make(url=proxy.url)
    keep(made, 2)
    proxy.upstream = server.port
    with pytest.raises(redis.exceptions.ReadOnlyError):
        made.ask(command("INCR", "count"))
    assert in_threads(2, lambda: made.ask(command("INCR", "count"))) in ([1, 2], [2, 1])


def test_a_restart_while_connections_lie_idle_costs_no_check(server, observer, limiter, long_idle):
    target = Target(rule(quota=5), A)
    limiter.check([target])
    keep(limiter.redis.connections, 3)
    server.kill()
    server.start()
    assert [limiter.check([target]).remaining for _ in range(3)] == [4, 3, 2]
    assert limiter.redis.breaker.failed_total == 0


@pytest.fixture
def long_idle(monkeypatch):
    """Whatever is free has been so for long."""
    monkeypatch.setattr(connections, "IDLE_S", -1.0)


def test_a_restart_in_full_use_costs_one_failure_and_no_more(server, observer, make):
    made = make()
    keep(made, 5)
    server.kill()
    server.start()
    with pytest.raises((redis.ConnectionError, OSError)):
        made.ask(PING)
    assert [made.ask(PING) for _ in range(5)] == [b"PONG"] * 5


def test_where_one_stayed_silent_the_older_ones_are_not_asked(make, proxy):
    """The host is gone without a word: nothing shows it but that nobody answers."""
    made = make(timeout_s=0.6, url=proxy.url)
    keep(made, 5)
    proxy.freeze()
    with pytest.raises((redis.TimeoutError, TimeoutError)):
        made.ask(PING)
    began_s = time.monotonic()
    assert in_threads(5, lambda: made.ask(PING)) == [b"PONG"] * 5
    assert time.monotonic() - began_s < 0.6


def test_a_connection_that_is_looked_at_is_kept_where_it_is_well(make, opened, long_idle):
    made = make()
    assert [made.ask(PING) for _ in range(5)] == [b"PONG"] * 5
    assert opened() == 1


def test_a_byte_that_nobody_asked_for_answers_nobody(make, proxy, long_idle):
    made = make(url=proxy.url)
    assert made.ask(PING) == b"PONG"
    proxy.inject(b"+STRAY\r\n")
    assert made.ask(echo("mine")) == b"mine"
    assert proxy.accepted == 2


def test_a_command_without_reply_is_not_sent_again_and_its_late_reply_answers_nobody(
    server, observer, make
):
    made = make(1, timeout_s=0.1)
    made.ask(PING)
    server.pause()
    try:
        with pytest.raises((redis.TimeoutError, TimeoutError)):
            made.ask(command("INCR", "count"))
    finally:
        server.resume()
    assert talk(made, "next", 20)
    assert observer.get("count") == b"1"
    eventually(lambda: clients(observer) == 1)


def test_a_check_without_reply_is_charged_once(server, observer):
    limiter = make_limiter(server.url, redis_timeout_ms=100)
    target = Target(rule(Algorithm.TOKEN_BUCKET, quota=10, window_us=600_000_000), A)
    assert limiter.check([target]).remaining == 9
    server.pause()
    try:
        assert limiter.check([target]).verdicts[0].degraded
    finally:
        server.resume()
    assert limiter.peek([target]).remaining == 8
    limiter.close()


def test_an_error_reply_keeps_the_connection(observer, make, opened):
    made = make()
    observer.set("text", "x")
    for _ in range(5):
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            made.ask(command("RPUSH", "text", "y"))
        assert made.ask(PING) == b"PONG"
    assert opened() == 1


class Interrupted(BaseException):
    """As KeyboardInterrupt, or a worker's timeout that a signal brings."""


@contextlib.contextmanager
def interrupted(after_s):
    def interrupt(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_interruption_in_the_middle_closes_the_connection(observer, make, opened):
    made = make(1)
    with interrupted(0.05), pytest.raises(Interrupted):
        made.ask(command("BLPOP", "late", 0))
    eventually(lambda: clients(observer) == 0)
    observer.rpush("late", "reply")
    assert talk(made, "next", 20)
    assert opened() == 2
    assert observer.lrange("late", 0, -1) == [b"reply"]


@contextlib.contextmanager
def interrupted_at(number):
    """At the ``number``-th place of connections.py where a signal's handler can run: behind a
    call, or at the start of a function. Yields a list that is empty where it has no such place."""
    at, places = [], itertools.count()

    def step(frame, event, _):
        mine = frame.f_code.co_filename == connections.__file__
        if mine and event in ("call", "c_return") and next(places) == number:
            sys.setprofile(None)
            at.append(frame.f_lineno)
            raise Interrupted

    before = sys.getprofile()
    sys.setprofile(step)
    try:
        yield at
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize("way", ["free", "looked at", "new", "in two steps"])
def test_an_interruption_anywhere_takes_no_place_for_ever_and_mixes_nothing_up(make, way):
    made = make(1, timeout_s=2)
    asks = {
        "looked at": lambda text: made.ask(echo(text), 1.0),
        "in two steps": lambda text: made.receive(made.send(echo(text), time.monotonic() + 2)),
    }
    ask = asks.get(way, lambda text: made.ask(echo(text)))
    for number in itertools.count():
        if way == "new":
            made.close()
        with contextlib.suppress(Interrupted), interrupted_at(number) as at:
            assert ask("mine") == b"mine"
        if not at:
            break
        # What was lost on its way goes with it.
        gc.collect()
        began_s = time.monotonic()
        assert made.ask(echo(number)) == said(number), at
        assert time.monotonic() - began_s < 1, at
        assert not made._waiting, at
    assert number > 3


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


def evals(observer) -> int:
    return int(observer.info("commandstats").get("cmdstat_eval", {}).get("calls", 0))


def test_a_lost_script_is_loaded_once(observer, limiter, opened):
    target = Target(rule(Algorithm.TOKEN_BUCKET, quota=50), A)
    limiter.check([target])
    for _ in range(2):
        observer.script_flush()
        observer.config_resetstat()
        assert [limiter.check([target]).allowed for _ in range(4)] == [True] * 4
        assert evals(observer) == 1
    assert limiter.redis.breaker.failed_total == 0


def test_a_restarted_server_is_given_the_script_again(server, limiter, long_idle):
    target = Target(rule(quota=50), A)
    limiter.check([target])
    server.kill()
    server.start()
    assert [limiter.check([target]).remaining for _ in range(3)] == [49, 48, 47]
    with server.client() as observer:
        assert evals(observer) == 1
    assert limiter.redis.breaker.failed_total == 0


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


def test_a_server_that_cannot_be_reached_takes_no_place_of_the_bound(server, observer, make):
    made = make(2, timeout_s=0.2)
    server.kill()
    for _ in range(5):
        with pytest.raises(redis.ConnectionError):
            made.ask(PING)
    server.start()
    assert made.ask(PING) == b"PONG"
