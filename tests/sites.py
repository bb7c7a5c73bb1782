"""A site in processes of its own, under granian, for tests: a free loopback port, its log kept."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from . import databases
from .servers import RedisProcess, free_port

ROOT = Path(__file__).resolve().parents[1]
START_S = 30.0


class SiteProcess:
    """``interface`` is ``wsgi`` or ``asginl``; ``settings`` a module of settings."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        interface: str = "wsgi",
        settings: str = "iota.settings",
        workers: int = 1,
        threads: int = 8,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"site-{self.port}.log"
        self.environment = {**environment, "DJANGO_SETTINGS_MODULE": settings}
        self._command = [sys.executable, "-m", "granian", "--interface", interface]
        self._command += ["--host", "127.0.0.1", "--port", str(self.port), "--no-ws"]
        self._command += ["--workers", str(workers)]
        if interface == "wsgi":
            self._command += ["--blocking-threads", str(threads)]
        self._command.append(f"iota.{'wsgi' if interface == 'wsgi' else 'asgi'}:application")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> SiteProcess:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                requests.get(f"{self.url}/healthz", timeout=2)
            except requests.ConnectionError:
                time.sleep(0.05)
                continue
            return self
        self.stop()
        raise AssertionError(f"the site does not answer:\n{self.said()}")

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def environment(folder: Path, redis_url: str, **changes: str) -> dict[str, str]:
    """For a site with a database of its own."""
    return {
        **os.environ,
        "DATABASE_URL": databases.url_of(folder),
        "REDIS_URL": redis_url,
        **changes,
    }


@contextmanager
def running(
    folder: Path, variables: Mapping[str, str] | None = None, **options: Any
) -> Iterator[tuple[SiteProcess, RedisProcess]]:
    """A site with a Redis and a migrated database of its own, stopped at the end. ``variables``
    and ``options`` as for SiteProcess."""
    redis = RedisProcess().start()
    site = SiteProcess(folder, environment(folder, redis.url, **(variables or {})), **options)
    try:
        databases.migrate(site.environment)
        yield site, redis
    finally:
        site.stop()
        redis.stop()


def manage(environment: Mapping[str, str], *arguments: str, code: int = 0) -> str:
    """What a command writes. Checks its exit code."""
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr if code else done.stdout
