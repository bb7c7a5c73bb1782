"""A whole site that is watched: its Redis behind a proxy, a replica, a broker of its own, granian,
a worker of the queue ``monitoring`` with beat, and a webhook that is told."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests import databases
from tests.proxies import Proxy
from tests.receivers import Webhook
from tests.servers import RedisProcess
from tests.sites import ROOT, SiteProcess, environment, manage

FIRES_S, ENDS_S = 120.0, 120.0
SETUP = """
from apps.monitoring import sealing
from apps.monitoring.models import AlertRule, Channel
AlertRule.objects.update(enabled=False)
Channel.objects.create(name="hook", sealed=sealing.seal({url!r}), receiver="webhook")
"""
ONLY = """
from apps.monitoring.models import AlertRule
AlertRule.objects.exclude(metric={metric!r}).update(enabled=False)
AlertRule.objects.filter(metric={metric!r}).update(enabled=True, for_s={for_s}, **{changes!r})
"""


class WatchedSite:
    def __init__(self, folder: Path) -> None:
        self.redis = RedisProcess().start()
        self.replica = RedisProcess().start()
        with self.replica.client() as client:
            client.replicaof("127.0.0.1", self.redis.port)
        self.broker = RedisProcess().start()
        self.proxy = Proxy(self.redis.port)
        self.hook = Webhook()
        variables = environment(
            folder,
            self.proxy.url,
            CELERY_BROKER_URL=self.broker.url,
            IOTA_REDIS_OPERATOR_URL=self.redis.url,
            IOTA_REDIS_TIMEOUT_MS="1000",
        )
        self.site = SiteProcess(folder, variables, settings="tests.site_settings")
        self.log = folder / "worker.log"
        self._folder = folder
        self._worker: subprocess.Popen[bytes] | None = None

    def start(self) -> WatchedSite:
        databases.migrate(self.site.environment)
        self._shell(SETUP.format(url=self.hook.url))
        self.site.start()
        self.start_worker()
        return self

    def start_worker(self) -> None:
        command = [sys.executable, "-m", "celery", "--app", "iota", "worker", "--beat"]
        command += ["--queues", "monitoring", "--concurrency", "1", "--loglevel", "info"]
        command += ["--schedule", str(self._folder / "beat")]
        with self.log.open("ab") as log:
            self._worker = subprocess.Popen(
                command, cwd=ROOT, env=self.site.environment, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def kill_worker(self) -> None:
        if self._worker is not None and self._worker.poll() is None:
            os.killpg(self._worker.pid, signal.SIGKILL)
            self._worker.wait()

    def stop(self) -> None:
        self.kill_worker()
        self.site.stop()
        self.proxy.close()
        self.hook.close()
        for server in (self.replica, self.redis, self.broker):
            server.stop()

    def only(self, metric: str, for_s: int = 15, **changes: Any) -> None:
        """This rule, and soon: what takes minutes is a matter of the clock, not of the servers."""
        self._shell(ONLY.format(metric=metric, for_s=for_s, changes=changes))
        self.hook.taken.clear()

    def _shell(self, code: str) -> None:
        manage(self.site.environment, "shell", "-v", "0", "-c", code)

    def rows(self, query: str, *parameters: str) -> list[tuple[Any, ...]]:
        return databases.rows(self.site.environment["DATABASE_URL"], query, parameters)

    def states(self, metric: str, of: str = "") -> list[str]:
        """Of the newest alert, in order, as far as it has come."""
        found = self.rows(
            "SELECT pending_since, fired_at, resolved_at FROM monitoring_alert "
            'WHERE metric = %s AND "of" LIKE %s ORDER BY id DESC LIMIT 1',
            metric,
            f"%{of}%",
        )
        if not found:
            return []
        names = ("pending", "firing", "resolved")
        return [name for name, at in zip(names, found[0], strict=True) if at is not None]

    def wait(self, metric: str, states: list[str], timeout_s: float, of: str = "") -> None:
        deadline = time.monotonic() + timeout_s
        while (found := self.states(metric, of)) != states:
            if time.monotonic() > deadline:
                values = self.rows(
                    'SELECT kind, address, s.at, s."values" FROM monitoring_source o '
                    "JOIN monitoring_sample s ON s.source_id = o.id ORDER BY s.id DESC LIMIT 6"
                )
                log = self.log.read_text()[-3_000:]
                raise AssertionError(f"{found} and not {states}\n{values}\n{log}")
            time.sleep(0.2)

    def titles(self, number: int) -> list[str]:
        """What the webhook was told, once there are so many; and no more within two samples."""
        deadline = time.monotonic() + 30
        while len(self.hook.taken) < number and time.monotonic() < deadline:
            time.sleep(0.2)
        return self.hook.titles

    @contextmanager
    def traffic(self, path: str, every_s: float = 0.04) -> Iterator[None]:
        ended = threading.Event()

        def ask() -> None:
            with requests.Session() as session:
                while not ended.wait(every_s):
                    with contextlib.suppress(requests.RequestException):
                        session.get(self.site.url + path, timeout=5)

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join(10)
