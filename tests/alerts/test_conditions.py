"""Each condition made real on real servers: pending, firing, one message, resolved.

The thresholds are the guide's, where nothing else is said; how long one must hold is cut short.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

import pytest
import redis

from .site import ENDS_S, FIRES_S, WatchedSite

pytestmark = pytest.mark.alerts
BUSY = "local ends = tonumber(ARGV[1]) local i = 0 while i < ends do i = i + 1 end return i"


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    made = WatchedSite(tmp_path_factory.mktemp("watched"))
    try:
        yield made.start()
    finally:
        made.stop()


def seen(watched: WatchedSite, metric: str, condition, name: str, of: str = "") -> None:
    with condition:
        watched.wait(metric, ["pending"], FIRES_S, of)
        watched.wait(metric, ["pending", "firing"], FIRES_S, of)
        assert len(watched.titles(1)) == 1
    watched.wait(metric, ["pending", "firing", "resolved"], ENDS_S, of)
    first, second = watched.titles(2)
    assert first.startswith("[IOTA] Firing, ")
    assert name in first
    assert second.startswith(f"[IOTA] Resolved: {name}")
    time.sleep(15)  # one more round of samples says nothing more
    assert len(watched.hook.titles) == 2


@contextlib.contextmanager
def busy(server: redis.Redis):
    """Its one thread has nothing else to do; each call is short, so that it answers meanwhile."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.is_set():
            with contextlib.suppress(redis.RedisError):
                server.eval(BUSY, 0, 2_000_000)

    threads = [threading.Thread(target=loop, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(10)


def test_cpu(watched):
    # 80 % of a core is more than a machine that runs other tests may have to give.
    watched.only("cpu_percent", threshold=40, clear=30)
    with watched.redis.client() as client:
        seen(watched, "cpu_percent", busy(client), "Redis: CPU", str(watched.redis.port))


@contextlib.contextmanager
def filled(client: redis.Redis):
    client.config_set("maxmemory", "32mb")
    number = 0
    while client.info("memory")["used_memory"] < 0.92 * (32 << 20):
        client.set(f"filling:{number}", os.urandom(1 << 18))
        number += 1
    try:
        yield
    finally:
        client.delete(*[f"filling:{place}" for place in range(number)])


def test_memory(watched):
    watched.only("memory_percent")
    with watched.redis.client() as client:
        seen(watched, "memory_percent", filled(client), "Redis: memory")
        client.config_set("maxmemory", "0")


@contextlib.contextmanager
def paused(server):
    server.pause()
    try:
        yield
    finally:
        server.resume()


def test_replication_lag(watched):
    watched.only("replication_lag_s")
    seen(watched, "replication_lag_s", paused(watched.replica), "Redis: replication lag")


@contextlib.contextmanager
def opened(server, number: int):
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            client = stack.enter_context(server.client())
            client.ping()
        yield


def test_connections(watched):
    watched.only("clients_percent")
    with watched.redis.client() as client:
        client.config_set("maxclients", 100)
        held = opened(watched.redis, 82)
        seen(watched, "clients_percent", held, "Redis: connections", str(watched.redis.port))
        client.config_set("maxclients", 10_000)


@contextlib.contextmanager
def slowed(watched: WatchedSite):
    watched.proxy.delay_s = 0.03
    try:
        yield
    finally:
        watched.proxy.delay_s = 0.0


def test_check_latency(watched):
    watched.only("check_p99_us")
    limit = (
        "from apps.ratelimits.models import RateLimit\n"
        "RateLimit.objects.create(name='wide', quota=10**6, window_unit=60)"
    )
    watched._shell(limit)
    with watched.traffic("/api/test"):
        seen(watched, "check_p99_us", slowed(watched), "Limiter: check latency")


def test_configuration_load(watched):
    """The key of a process that starts comes late: from a pipe that somebody writes to by hand."""
    watched.only("config_load_us")
    # A process says of itself what it is once it has something to limit.
    with watched.traffic("/api/test", every_s=0.5):
        seen(watched, "config_load_us", started_slowly(watched), "Limiter: configuration load")


@contextlib.contextmanager
def started_slowly(watched: WatchedSite):
    site, variables = watched.site, watched.site.environment
    pipe = site.log.parent / "slow-key"
    os.mkfifo(pipe)
    ended = threading.Event()
    key = variables["SECRET_KEY"]

    def write() -> None:
        while not ended.is_set():
            # Opening waits for a reader; the reader then waits for the key.
            with contextlib.suppress(BrokenPipeError), pipe.open("w") as file:
                time.sleep(0.5)
                file.write(key)

    threading.Thread(target=write, daemon=True).start()
    site.stop()
    slow = {name: value for name, value in variables.items() if name != "SECRET_KEY"}
    site.environment = {**slow, "SECRET_KEY_FILE": str(pipe)}
    try:
        site.start()
        yield
    finally:
        ended.set()
        site.stop()
        site.environment = variables
        site.start()


def test_error_rate(watched):
    watched.only("error_percent")
    with watched.traffic("/api/test"):
        seen(watched, "error_percent", watched.traffic("/api/broken"), "Site: error rate")


@contextlib.contextmanager
def queued(client: redis.Redis):
    client.rpush("celery", *["{}"] * 1_100)
    try:
        yield
    finally:
        client.delete("celery")


def test_queue_length(watched):
    watched.only("queue_length")
    with watched.broker.client() as client:
        seen(watched, "queue_length", queued(client), "Queue length")


def test_no_answer(watched):
    watched.only("silent_s")
    port = str(watched.redis.port)
    seen(watched, "silent_s", paused(watched.redis), "No answer", port)


def test_a_worker_killed_while_it_sends_has_sent_once(watched):
    watched.only("queue_length", for_s=0)
    watched.hook.hang_s = 4
    with watched.broker.client() as client, queued(client):
        deadline = time.monotonic() + FIRES_S
        while not watched.hook.taken:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        watched.kill_worker()
        watched.hook.hang_s = 0
        watched.start_worker()
        newest = "SELECT state FROM monitoring_notification ORDER BY id DESC LIMIT 1"
        deadline = time.monotonic() + 150
        while watched.rows(newest) != [("unclear",)]:
            assert time.monotonic() < deadline, watched.rows(newest)
            time.sleep(0.5)
        time.sleep(15)
        assert len(watched.hook.taken) == 1
