"""What real sites count, in several processes and both interfaces, whatever becomes of them."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests

from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.processes import Processes
from apps.ratelimits.storage.usage import LimitUsage, Usage, UsageStore

from .databases import migrate
from .servers import RedisProcess
from .sites import SiteProcess, environment, manage

KEYS = Keys("iota:")
QUOTA = 150
LOST_S = 1.5
"""A second, and what a busy machine may add to it."""

LIMITS = f"""
from apps.ratelimits.models import RateLimit
for name, quota in (("api", {QUOTA}), ("wide", 1_000_000)):
    made = RateLimit(name=name, quota=quota, window_unit=86400, algorithm="fixed_window",
                     counted_by="everyone", path_kind="prefix", path=f"/{{name}}/")
    made.full_clean()
    made.save()
    print(made.pk)
"""


@contextmanager
def sites(
    folder, *interfaces, workers=2
) -> Iterator[tuple[RedisProcess, list[int], list[SiteProcess]]]:
    """Sites of one database and one Redis, with two limits; their ids."""
    redis = RedisProcess().start()
    variables = environment(folder, redis.url, IOTA_REDIS_TIMEOUT_MS="1000")
    started = []
    try:
        migrate(variables)
        numbers = manage(variables, "shell", "--verbosity", "0", "-c", LIMITS).split()
        for interface in interfaces:
            site = SiteProcess(
                folder,
                variables,
                interface=interface,
                settings="tests.site_settings",
                workers=workers,
            )
            started.append(site)
            site.start()
        yield redis, list(map(int, numbers)), started
    finally:
        for site in started:
            site.stop()
        redis.stop()


def ask(running: list[SiteProcess], count: int, path: str = "/api/test") -> Counter[int]:
    """So many requests to all of them in turn, eight at a time: how often which status."""
    turn = itertools.cycle(running)
    urls = [f"{next(turn).url}{path}" for _ in range(count)]
    with ThreadPoolExecutor(8) as pool:
        return Counter(pool.map(lambda url: requests.get(url, timeout=10).status_code, urls))


def eventually(store: UsageStore, count: int, within_s: float = 15.0) -> Usage:
    """The reading that has so many requests; a little later, since it must stay so."""
    deadline = time.monotonic() + within_s
    while (read := store.read()).requests != count:
        assert time.monotonic() < deadline, read
        time.sleep(0.05)
    time.sleep(1.2)
    return store.read()


def test_totals_are_exact_over_processes_and_a_loss_of_redis(tmp_path):
    with sites(tmp_path, "wsgi", "asginl") as (redis, numbers, running), redis.client() as client:
        api, wide = numbers
        store = UsageStore(client, KEYS)
        assert ask(running, 400) == {200: QUOTA, 429: 400 - QUOTA}
        assert ask(running, 40, "/wide/") == {404: 40}
        assert ask(running, 20, "/of-no-limit/") == {404: 20}
        read = eventually(store, 460)
        assert (read.requests, read.errors) == (460, 0)
        assert (read.allowed, read.denied) == (QUOTA + 40, 400 - QUOTA)
        assert sum(read.checks) == 440
        assert read.limits == {api: LimitUsage(QUOTA, 400 - QUOTA), wide: LimitUsage(40)}
        # One that began and was gone again counts for three seconds.
        deadline = time.monotonic() + 5
        while len(alive := Processes(client, KEYS).alive()) != 4:
            assert time.monotonic() < deadline, [(a.pid, a.started_s, a.seen_s) for a in alive]
            time.sleep(0.1)

        redis.kill()
        assert ask(running, 100, "/wide/") == {404: 100}
        time.sleep(2.5)  # Several flushes fail.
        redis.start()
        assert ask(running, 50, "/wide/") == {404: 50}
        after = eventually(store, 150)
        assert after.since_s != read.since_s
        assert after.since(read) == after
        assert (after.requests, after.errors, after.denied) == (150, 0, 0)
        assert after.limits[wide].allowed == after.allowed == 150
        # Those right after its return may have been decided without it too.
        assert 100 <= after.limits[wide].degraded == after.degraded <= 150


@pytest.mark.parametrize("interface", ["wsgi", "asginl"])
def test_a_site_that_is_stopped_has_told_all_and_is_not_missed(tmp_path, interface):
    with sites(tmp_path, interface) as (redis, numbers, running), redis.client() as client:
        assert ask(running, 300) == {200: QUOTA, 429: 300 - QUOTA}
        running[0].stop()
        read = UsageStore(client, KEYS).read()
        assert (read.requests, read.allowed, read.denied) == (300, QUOTA, 300 - QUOTA)
        assert read.limits == {numbers[0]: LimitUsage(QUOTA, 300 - QUOTA)}
        assert Processes(client, KEYS).alive() == []


def test_a_process_that_is_killed_takes_along_a_second_at_most(tmp_path):
    answered: list[float] = []
    with sites(tmp_path, "wsgi", workers=1) as (redis, _, running), redis.client() as client:
        stop = threading.Event()

        def load() -> None:
            with requests.Session() as session:
                while not stop.wait(0.005):
                    try:
                        session.get(f"{running[0].url}/api/test", timeout=5)
                    except requests.RequestException:
                        return
                    answered.append(time.monotonic())

        loading = threading.Thread(target=load)
        loading.start()
        time.sleep(3.3)
        (status,) = Processes(client, KEYS).alive()
        os.kill(status.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        stop.set()
        loading.join()
        counted = UsageStore(client, KEYS).read().requests
        assert sum(at < killed_s - LOST_S for at in answered) <= counted <= len(answered) + 1
