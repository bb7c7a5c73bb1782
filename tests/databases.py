"""The databases of sites that tests start: SQLite files, or with ``--database=postgres`` databases
of the one PostgreSQL that this process has started. Each is named by its URL.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import set_json_loads

from .postgres import PostgresServer

ROOT = Path(__file__).resolve().parents[1]
SQLITE = "sqlite:///"
WAIT_S = 20

# Set by tests/plugin.py.
server: PostgresServer | None = None
"""None: SQLite."""
session_folder: Path | None = None

allowed = True
"""Whether the test that runs is among those that ``--only-database`` keeps."""
_template: str | None = None


def url_of(folder: Path) -> str:
    """For DATABASE_URL: the folder's own, which is made where it is not there, and empty then."""
    assert allowed, "see uses_database in tests/plugin.py: --only-database leaves this test out"
    if server is None:
        return f"{SQLITE}{folder}/site.sqlite3"
    name = "site_" + blake2b(str(folder).encode(), digest_size=8).hexdigest()
    return server.url_of(name) if name in server.databases() else server.create(name)


def copy(source: str, target: str) -> None:
    """``target`` is like ``source`` then, which nobody uses meanwhile."""
    if server is None:
        with _opened(source) as whole, _opened(target) as made:
            whole.backup(made)
        return
    server.drop(_name(target))
    server.create(_name(target), template=_name(source))


def rename(url: str, to: str) -> None:
    """As if it were lost, or back: nobody is connected to it."""
    if server is None:
        Path(url.removeprefix(SQLITE)).rename(to.removeprefix(SQLITE))
        return
    query = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    with server.connect("postgres") as connection:
        connection.execute(query.format(sql.Identifier(_name(url)), sql.Identifier(_name(to))))


def migrate(environment: Mapping[str, str]) -> None:
    """``manage.py migrate`` on a new database: by a copy, since each takes five seconds."""
    global _template
    if _template is None:
        assert session_folder is not None
        made = url_of(session_folder)
        command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        variables = {**environment, "DATABASE_URL": made}
        ran = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        _template = made
    copy(_template, environment["DATABASE_URL"])


def rows(url: str, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """What a query finds, or changes, beside the site. Parameters are ``%s``; JSON is text."""
    if url.startswith(SQLITE):
        with _opened(url) as connection:
            found = connection.execute(query.replace("%s", "?"), parameters).fetchall()
            connection.commit()
            return found
    with psycopg.connect(url, connect_timeout=WAIT_S) as connection:
        set_json_loads(lambda said: said if isinstance(said, str) else said.decode(), connection)
        ran = connection.execute(query.encode(), parameters or None)
        return ran.fetchall() if ran.description else []


def _opened(url: str) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(url.removeprefix(SQLITE), timeout=WAIT_S))


def _name(url: str) -> str:
    return url.rpartition("/")[2]
