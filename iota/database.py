"""What Django is told of the database beside what DATABASE_URL says, which wins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SQLITE = "django.db.backends.sqlite3"
POSTGRESQL = "django.db.backends.postgresql"

SQLITE_OPTIONS = {
    # Worker, beat and site write to one file: readers must not block, and writers wait in line.
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
}

KEPT_S = 60
"""How long a thread keeps a connection."""
ASGI_POOL, POOL_WAIT_S = 20, 5
POOL_RECONNECT_S = 2
"""After so long an attempt begins anew. Its pauses double: within the default of five minutes a
server that was long away was found seconds to minutes after it had come back."""
SERVER_LIMITS = {
    # A statement that hangs must not hold up a process for ever, nor a process that hangs an edit.
    "statement_timeout": "60s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
}
POSTGRESQL_OPTIONS = {
    "application_name": "iota",
    # A server that vanished is told from one that is slow: within 5 s, or a minute once connected.
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "options": " ".join(f"-c {name}={value}" for name, value in SERVER_LIMITS.items()),
}


def database(said: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """An entry of DATABASES. A relative path is one under ``base``, wherever a process was
    started."""
    if said["ENGINE"] == SQLITE:
        name = said["NAME"] if said["NAME"] == ":memory:" else str(base / said["NAME"])
        return {**said, "NAME": name, "OPTIONS": dict(SQLITE_OPTIONS)}
    if said["ENGINE"] != POSTGRESQL:
        return dict(said)
    options = {**POSTGRESQL_OPTIONS, **said.get("OPTIONS", {})}
    made: dict[str, Any] = {"CONN_MAX_AGE": KEPT_S, "CONN_HEALTH_CHECKS": True, **said}
    if not str(options["options"]).strip():
        del options["options"]
    most = options.pop("pool", 0)
    made["OPTIONS"] = options
    return pooled(made, int(most)) if most else made


def pooled(entry: dict[str, Any], most: int = ASGI_POOL) -> dict[str, Any]:
    """With a pool of at most so many connections in each process, where it is PostgreSQL's and has
    none yet: what under ASGI must be. There each request has a thread of its own, and what the
    thread keeps is lost with it: 16 clients at once were seen to hold 121 connections."""
    if entry["ENGINE"] != POSTGRESQL or "pool" in entry["OPTIONS"]:
        return entry
    pool = {"min_size": 1, "max_size": most, "timeout": POOL_WAIT_S}
    pool |= {"reconnect_timeout": POOL_RECONNECT_S}
    return {**entry, "CONN_MAX_AGE": 0, "OPTIONS": {**entry["OPTIONS"], "pool": pool}}
