"""The way made long, and the server made busy: which of the two is named."""

from __future__ import annotations

import threading
import time

import pytest
import redis

from apps.monitoring.hooks.latency import Trips, judge
from apps.ratelimits.storage.server_findings import Level
from tests import redis_files
from tests.proxies import Proxy
from tests.servers import RedisProcess, flavours

from .looking import codes, find

TURNS = 2_000_000
SPIN = "local x = 0 for i = 1, tonumber(ARGV[1]) do x = x + i % 7 end return 1"
"""So many turns of a loop: scripts have no clock that runs."""


@pytest.fixture(params=flavours())
def server(request):
    made = RedisProcess(request.param).start()
    yield made
    made.stop()


class SlowProxy(Proxy):
    """Holds back whatever passes, as a long way does."""

    def _pump(self, source, sink):
        class Late:
            fileno, shutdown, close = sink.fileno, sink.shutdown, sink.close

            def sendall(self, data):
                time.sleep(0.02)
                sink.sendall(data)

        super()._pump(source, Late())


@pytest.fixture
def busy(server):
    """Scripts that follow each other without a pause, from two clients."""
    stop = threading.Event()

    def spin():
        with redis.Redis.from_url(server.url) as client:
            while not stop.is_set():
                client.eval(SPIN, 0, TURNS)

    threads = [threading.Thread(target=spin) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()


def test_a_long_way_is_told_from_a_slow_server(server):
    proxy = SlowProxy(server.port)
    (found,) = find("latency", proxy.url)
    proxy.close()
    assert (found.level, found.code) == (Level.WARNING, "latency-network")
    assert "TCP handshake" in found.evidence
    assert "on this host" in found.evidence
    assert "nearer" in found.to_do


def test_a_busy_server_is_told_from_a_long_way(server, busy):
    (found,) = find("latency", server.url)
    assert (found.level, found.code) == (Level.WARNING, "latency-server"), found.evidence
    assert "busy" in found.what
    assert "slow log" in found.to_do


def test_a_server_nearby_that_has_time_is_no_warning(server):
    (found,) = find("latency", server.url)
    assert found.level is Level.INFO, found.evidence
    for unit in ("ms at best", "of the time", "held up for"):
        assert unit in found.evidence


def test_what_the_site_may_not_read_is_unknown_and_never_fine(request):
    for flavour in flavours():
        server = redis_files.with_users(flavour)
        request.addfinalizer(server.stop)
        server.start()
        address = f"127.0.0.1:{server.port}"
        (found,) = find("latency", redis_files.url("iota", address))
        assert (found.level, found.code) == (Level.UNKNOWN, "latency-unknown")
        assert "PING took" in found.evidence
        assert "secret" not in found.evidence
        operator = redis_files.url("iota-operator", address)
        (found,) = find("latency", redis_files.url("iota", address), redis_operator_url=operator)
        assert found.level is Level.INFO


def test_nobody_there_is_unknown(server):
    server.stop(remove=False)
    found = find("latency", server.url)
    assert codes(found) == ["not-known"]
    assert found[0].level is Level.UNKNOWN
    assert "Start the server" in found[0].to_do


@pytest.mark.parametrize(
    ("trips", "code"),
    [
        (Trips((100, 120, 140), busy=0.1, script_us=20), "latency-network"),
        (Trips((100, 120, 140), busy=0.1, script_us=400), "latency-server"),
        (Trips((100, 9_000, 9_500), handshake_us=90, busy=0.95, script_us=20), "latency-server"),
        (Trips((9_000, 9_200, 9_500), handshake_us=8_900, busy=0.95), "latency-network"),
        (Trips((9_000, 9_200, 9_500), handshake_us=50, busy=0.1), "latency-network"),
    ],
)
def test_the_larger_part_is_named(trips, code):
    (found,) = judge(trips, "here")
    assert found.code == code
