"""An edit in one process is law in two others within a second."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.databases import migrate, url_of
from tests.servers import RedisProcess, free_port

ROOT = Path(__file__).resolve().parents[1]
WITHIN_S = 1.0
START_S = 30.0

CREATE = """
import time
from apps.ratelimits.models import RateLimit
RateLimit.objects.create(name="edited", quota=100_000, path_kind="prefix", path="/api/")
print(time.time())
"""
UPDATE = """
import time
from apps.ratelimits.models import RateLimit
RateLimit.objects.filter(name="edited").update(mode="shadow")
print(time.time())
"""


class Site:
    """One server process, asked every few milliseconds whether the limit is in force there."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.port = free_port()
        self.seen: list[tuple[float, bool]] = []
        self._stop = threading.Event()
        command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "iota.wsgi:application"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        self._thread = threading.Thread(target=self._ask)

    def wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                requests.get(f"http://127.0.0.1:{self.port}/api/test", timeout=2)
            except requests.ConnectionError:
                time.sleep(0.05)
                continue
            self._thread.start()
            while not self.seen:
                time.sleep(0.02)
            return
        raise AssertionError("the server does not answer")

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._stop.wait(0.02):
                began = time.time()
                answer = session.get(f"http://127.0.0.1:{self.port}/api/test", timeout=2)
                in_force = "edited" in answer.headers.get("RateLimit-Policy", "")
                self.seen.append((began, in_force))

    def turned(self, since: float, in_force: bool) -> float:
        """Seconds from ``since`` until the first request that was answered so."""
        deadline = time.time() + 5
        while time.time() < deadline:
            for began, was in list(self.seen):
                if began >= since and was is in_force:
                    return began - since
            time.sleep(0.02)
        raise AssertionError("the edit never came into force")

    def stop(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    redis = RedisProcess().start()
    yield {
        **os.environ,
        "DATABASE_URL": url_of(tmp_path),
        "REDIS_URL": redis.url,
    }
    redis.stop()


def manage(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def test_two_server_processes_follow_an_edit_of_a_third_within_a_second(environment):
    migrate(environment)
    sites = [Site(environment) for _ in range(2)]
    try:
        for site in sites:
            site.wait()
        for edit, in_force in ((CREATE, True), (UPDATE, False)):
            assert all(site.seen[-1][1] is not in_force for site in sites)
            saved = float(manage(environment, "shell", "--verbosity", "0", "-c", edit))
            waits = [site.turned(saved, in_force) for site in sites]
            assert max(waits) <= WITHIN_S, waits
    finally:
        for site in sites:
            site.stop()
