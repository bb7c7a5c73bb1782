"""The demo's Django site under granian, with limits of every failure policy, on its own SQLite.

A limit is chosen by the request's host, so that the site is the demo's as it stands.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers import free_port

from .load import HOST, Target

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 40.0
PROCESSES = 2
QUOTA = 8
"""Of the limits local, allow and deny, in a window that does not end while a test runs."""
SHARE = QUOTA // PROCESSES
"""What one process admits by itself."""
ACROSS_QUOTA = 30
BUCKET_QUOTA, BUCKET_WINDOW_S = 10, 1

YEAR = 'window_amount=365, window_unit=86_400, algorithm="fixed_window"'
LIMITS = f"""
from apps.ratelimits.models import RateLimit
add = RateLimit.objects.create
add(name="local", host="local.test", quota={QUOTA}, {YEAR}, on_failure="local")
add(name="allow", host="allow.test", quota={QUOTA}, {YEAR}, on_failure="allow")
add(name="deny", host="deny.test", quota={QUOTA}, {YEAR}, on_failure="deny")
add(name="across", host="across.test", quota={ACROSS_QUOTA}, {YEAR}, on_failure="deny")
add(name="bucket", host="bucket.test", quota={BUCKET_QUOTA}, window_amount={BUCKET_WINDOW_S},
    window_unit=1, algorithm="token_bucket", on_failure="local")
add(name="together", counted_by="everyone", quota=1_000_000, mode="shadow")
"""


def environment(redis_url: str, database: Path, **more: str) -> dict[str, str]:
    """Nothing of ours is taken from the caller's, so that every run serves the same; production's
    defaults where they matter: timeout, breaker and poll."""
    return {
        "PATH": os.environ["PATH"],
        "IOTA_DEMO": "1",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "IOTA_IDENTITY_KEY": secrets.token_hex(32),
        "IOTA_LOCAL_PROCESSES": str(PROCESSES),
        "IOTA_TRUSTED_PROXIES": "127.0.0.0/8",
        "IOTA_KEY_VALIDATOR": "iota.demo_keys.whose_key",
        "ALLOWED_HOSTS": "localhost,.test",
        "REDIS_URL": redis_url,
        "DATABASE_URL": f"sqlite:///{database}",
        **more,
    }


def manage(environ: Mapping[str, str], *arguments: str) -> None:
    command = [sys.executable, "manage.py", *arguments]
    subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True)


def make_database(folder: Path, limits: str = LIMITS) -> Path:
    """Migrated, with the limits, without a Redis: the first site that meets one publishes them."""
    database = folder / "template.sqlite3"
    environ = environment(f"redis://{HOST}:{free_port()}/0", database)
    manage(environ, "migrate", "--verbosity", "0")
    manage(environ, "shell", "--verbosity", "0", "-c", limits)
    return database


class Site:
    """Granian, and the processes that it serves with.

    ``interface`` is wsgi or asgi. Two sites share a Redis: each has a prefix.
    """

    def __init__(
        self, interface: str, folder: Path, template: Path, redis_url: str, **environ: str
    ) -> None:
        self.interface = interface
        self.port = free_port()
        self.prefix = f"{interface}:"
        self.log = folder / f"{interface}-{self.port}.log"
        self.database = folder / f"{interface}-{self.port}.sqlite3"
        if template.exists():
            shutil.copy(template, self.database)
        more = {"IOTA_KEY_PREFIX": self.prefix, **environ}
        self._environ = environment(redis_url, self.database, **more)

    def start(self) -> Site:
        command = [sys.executable, "-m", "granian", "--interface", self.interface, "--no-ws"]
        command += ["--host", HOST, "--port", str(self.port), "--workers", str(PROCESSES)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, f"iota.{self.interface}:application"],
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def wait(self) -> Site:
        """Until it answers at all."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            if self.status("/healthz") == 200 and len(self.pids) == PROCESSES:
                return self
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"the site did not start: {self.log.read_text()[-2_000:]}")

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the processes that serve, as granian names them."""
        return tuple(
            map(int, re.findall(r"Spawning worker-\d+ with PID: (\d+)", self.log.read_text()))
        )

    @property
    def target(self) -> Target:
        return Target(self.interface, self.port, self.pids)

    def status(self, path: str, host: str = "localhost") -> int:
        """0 where there is no answer."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", path, headers={"Host": host})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # Workers of a main process that was killed live on, and hold the port.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def start_sites(
    folder: Path,
    template: Path,
    redis_url: str,
    interfaces: Sequence[str] = ("wsgi", "asgi"),
    **environ: str,
) -> list[Site]:
    """All at once, since each takes a while."""
    sites = [Site(interface, folder, template, redis_url, **environ) for interface in interfaces]
    for site in sites:
        site.start()
    try:
        for site in sites:
            site.wait()
    except RuntimeError:
        for site in sites:
            site.stop()
        raise
    return sites
