"""A real Celery worker for tests, on a site of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import databases
from .sites import ROOT, environment

WAIT_S = 90


class Worker:
    """In a session of its own, so that all of it can be killed."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.environment = environment(folder, redis_url, DJANGO_SETTINGS_MODULE="iota.settings")
        self.log = folder / "worker.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, concurrency: int = 1, *more: str, queue: str) -> None:
        command = [sys.executable, "-m", "celery", "--app", "iota", "worker", "--queues"]
        command += [queue, "--concurrency", str(concurrency), "--loglevel", "info", *more]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def rows(self, query: str) -> list[tuple[object, ...]]:
        return databases.rows(self.environment["DATABASE_URL"], query)

    def wait(self, query: str, wanted: list[tuple[object, ...]]) -> None:
        deadline = time.monotonic() + WAIT_S
        while (found := self.rows(query)) != wanted:
            assert time.monotonic() < deadline, f"{found}\n{self.log.read_text()}"
            time.sleep(0.1)

    def kill(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
