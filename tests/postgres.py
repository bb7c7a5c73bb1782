"""A real PostgreSQL for tests: Debian's binaries, our own data in a temporary folder, no daemon.

Tests that only need databases make them of one server with ``create``; a copy of a migrated one
takes a tenth of a second.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from psycopg import sql

from .servers import START_ATTEMPTS, free_port

USER = "iota"
DATABASE = "iota"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
PR_SET_PDEATHSIG = 1
UNPRIVILEGED = ("postgres", "nobody")
"""Whom a root starts it as: PostgreSQL refuses root."""

# Nothing is to outlive the tests. `max_connections`: sites of several processes and threads.
OPTIONS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "10min",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "2GB",
    "jit": "off",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
}


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class NoPostgres(RuntimeError):
    """This machine has no PostgreSQL server; the text says how to get one."""


def binary(name: str) -> str:
    """The newest ``name`` that the machine has. Raises NoPostgres."""

    def version(path: Path) -> tuple[int, ...]:
        return tuple(map(int, re.findall(r"\d+", path.parts[-3])))

    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=version)
    found = str(debian[-1]) if debian else shutil.which(name)
    if not found:
        raise NoPostgres(
            f"no {name}: install PostgreSQL's server, such as with `apt-get install postgresql` "
            "(it need not run), or put its binaries on the PATH"
        )
    return found


def _unprivileged() -> pwd.struct_passwd | None:
    """Who runs the server; None: who runs the tests. Raises NoPostgres."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgres(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(UNPRIVILEGED)}"
    )


class PostgresServer:
    """On a free loopback port, with a password. Its log is ``folder / "postgres.log"``.

    The data lies apart: who runs the server may not enter a folder of root's.
    """

    def __init__(self, folder: Path) -> None:
        self.log = folder / "postgres.log"
        self.port = 0
        self._user = _unprivileged()
        self._postgres, self._initdb = binary("postgres"), binary("initdb")
        self._password = secrets.token_hex(16)
        self._folder = Path(tempfile.mkdtemp(prefix="iota-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of an empty database, for DATABASE_URL."""
        return self.url_of(DATABASE)

    def url_of(self, name: str) -> str:
        return f"postgres://{USER}:{self._password}@127.0.0.1:{self.port}/{name}"

    def start(self) -> PostgresServer:
        """Start, on the data and the port it had before where it had any. Raises RuntimeError."""
        if not (self._folder / "data").exists():
            self._make_data()
        for _ in range(START_ATTEMPTS):
            self.port = self.port or free_port()
            options = {**OPTIONS, "port": str(self.port), "listen_addresses": "127.0.0.1"}
            options["unix_socket_directories"] = str(self._folder)
            command = [self._postgres, "-D", str(self._folder / "data")]
            command += [f"--{name}={value}" for name, value in options.items()]
            self._process = self._run(command)
            if self._answers():
                if DATABASE not in self.databases():
                    self.create(DATABASE)
                return self
            self.stop(remove=False)
            self.port = 0
        self.stop()
        raise RuntimeError(f"PostgreSQL did not start:\n{self.log.read_text(errors='replace')}")

    def _make_data(self) -> None:
        password = self._folder / "password"
        password.write_text(self._password)
        if self._user:
            for path in (self._folder, password):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        command = [self._initdb, "-D", str(self._folder / "data"), "--username", USER, "--no-sync"]
        command += ["--auth", "scram-sha-256", "--pwfile", str(password)]
        # As on a site of people: not the order of bytes, which SQLite has as well.
        command += ["--encoding", "UTF8", "--locale", "C.UTF-8"]
        command += ["--locale-provider", "icu", "--icu-locale", "en-US"]
        if self._run(command).wait() != 0:
            said = self.log.read_text(errors="replace")
            self.stop()
            raise RuntimeError(f"initdb failed:\n{said}")
        password.unlink()

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        uid, gid = (self._user.pw_uid, self._user.pw_gid) if self._user else (None, None)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=uid,
                group=gid,
                extra_groups=[] if self._user else None,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def _answers(self) -> bool:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process and self._process.poll() is None:
            try:
                # Another's server on the port would not know the password.
                self.connect("postgres").close()
            except psycopg.OperationalError:
                time.sleep(0.02)
                continue
            return True
        return False

    def connect(self, name: str = DATABASE) -> psycopg.Connection:
        """Of its superuser, each statement for itself."""
        return psycopg.connect(self.url_of(name), autocommit=True, connect_timeout=5)

    def databases(self) -> set[str]:
        with self.connect("postgres") as connection:
            return {row[0] for row in connection.execute("SELECT datname FROM pg_database")}

    def create(self, name: str, template: str = "template1") -> str:
        """The URL of a new database: a copy of ``template``, which nobody may be connected to."""
        query = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with self.connect("postgres") as connection:
            connection.execute(query.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url_of(name)

    def drop(self, name: str) -> None:
        """Whoever is connected to it loses the connection."""
        query = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        with self.connect("postgres") as connection:
            connection.execute(query.format(sql.Identifier(name)))

    def stop(self, *, remove: bool = True) -> None:
        """At once, as by a loss of power where the data goes, too."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT if remove else signal.SIGINT)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if remove:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _end_with_parent() -> None:
    """Who is killed, as xdist's workers are at Ctrl-C, stops nothing: Linux does it then."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


def start(folder: Path) -> PostgresServer:
    """A server that answers; its log is in ``folder``. Raises NoPostgres, RuntimeError."""
    return PostgresServer(folder).start()
