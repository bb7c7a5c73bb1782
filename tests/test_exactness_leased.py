"""16 processes that take blocks of one quota: never one request over it, and hardly fewer."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from apps.ratelimits.policy.identity import DIGEST_CHARS
from apps.ratelimits.policy.rules import Algorithm, Rate, Rule
from apps.ratelimits.storage.limiter import RateLimiter, Target
from apps.ratelimits.storage.topology import Topology

from .servers import RedisProcess

PROCESSES = 16
QUOTA, LEASE, WINDOW_US = 4_000, 50, 1_000_000
WINDOWS = 4
RATE = Rate(Algorithm.FIXED_WINDOW, QUOTA, WINDOW_US, QUOTA)
TARGETS = [Target(Rule(id=1, name="leased", rate=RATE, lease=LEASE), "a" * DIGEST_CHARS)]


def hammer(url: str, ready, results) -> None:
    """Ask as fast as it goes for some windows; send how many were admitted in each."""
    config = SimpleNamespace(
        redis_url=url,
        key_prefix="iota:",
        identity_key=b"k" * 32,
        redis_timeout_ms=5_000,
        redis_max_connections=1,
        breaker_failures=1,
        breaker_open_ms=1_000,
        local_processes=1,
    )
    client = Topology.parse(url, timeout_ms=5_000, max_connections=1).client()
    limiter = RateLimiter(config, client)
    surely: Counter[int] = Counter()
    perhaps: Counter[int] = Counter()
    ready.wait()
    now_us = time.time_ns() // 1_000
    until_us = (now_us // WINDOW_US + WINDOWS + 1) * WINDOW_US
    while now_us < until_us:
        # The server's clock is this machine's.
        began_us = time.time_ns() // 1_000
        allowed = limiter.check(TARGETS).allowed
        now_us = time.time_ns() // 1_000
        windows = {began_us // WINDOW_US, now_us // WINDOW_US}
        if not allowed:
            time.sleep(0.002)
        elif len(windows) == 1:
            surely.update(windows)
        else:  # At an edge: in one of them.
            perhaps.update(windows)
    limiter.close()
    results.put((surely, perhaps))


@pytest.fixture
def server():
    made = RedisProcess().start()
    yield made
    made.stop()


def test_many_processes_admit_no_more_than_the_quota_and_hardly_less(server):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ready, results = context.Barrier(PROCESSES), context.Queue()
    workers = [
        context.Process(target=hammer, args=(server.url, ready, results)) for _ in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    counts = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    with server.client() as client:
        trips = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    surely = sum((one for one, _ in counts), Counter())
    perhaps = sum((one for _, one in counts), Counter())
    whole = sorted(surely)[1:-1]
    assert len(whole) >= WINDOWS - 2
    for window in whole:
        assert surely[window] <= QUOTA
        assert surely[window] + perhaps[window] >= QUOTA - (PROCESSES - 1) * LEASE
    assert trips < sum(surely.values())
