"""What the servers of the counters say of themselves: read, never changed.

INFO says most of it, CONFIG GET the rest. An ACL or a managed service may refuse either: what was
not said is None, which means unknown and never fine. What it all means: ``server_findings``.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import redis
from redis.cluster import RedisCluster

from . import scripts
from .failures import Kind, kind_of
from .topology import Client, Topology

LOOK_TIMEOUT_MS = 1_000
"""Longer than a check waits: a server that is merely slow is to say so."""

PINGS = 3
MOST_CONNECTIONS = 2
# No bucket, nothing charged, no limit: check.lua reads its clock and replies.
NO_CHECK = bytes(2 + 50)


class Scripts(StrEnum):
    """Whether checks can run."""

    READY = "ready"
    NOT_LOADED = "not loaded"
    """Allowed; the first check loads them."""
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One server, or one node of a cluster. None: it did not say."""

    address: str
    error: str = ""
    """Why nothing was read; empty where it answered."""
    round_trip_us: int | None = None
    flavour: str | None = None
    version: str | None = None
    speaks: tuple[int, ...] | None = None
    """The version of Redis whose commands it has."""
    role: str | None = None
    """``primary`` or ``replica``."""
    replicas: int | None = None
    clustered: bool | None = None
    maxmemory: int | None = None
    """Bytes; 0: no limit."""
    used_memory: int | None = None
    policy: str | None = None
    evicted: int | None = None
    """Keys, since it started."""
    timeout_s: int | None = None
    """0: idle connections stay."""
    clients: int | None = None
    maxclients: int | None = None
    append_only: bool | None = None
    snapshots: bool | None = None
    scripts: Scripts = Scripts.UNKNOWN
    scripts_error: str = ""
    refused: tuple[str, ...] = ()
    """What this user may not ask, with the server's words."""


def read_urls(url: str, operator_url: str = "") -> list[ServerFacts]:
    """``read_servers`` by clients of its own, each of whose commands takes a second at most."""
    with contextlib.ExitStack() as open_clients:

        def client(url: str) -> Client:
            topology = Topology.parse(
                url, timeout_ms=LOOK_TIMEOUT_MS, max_connections=MOST_CONNECTIONS
            )
            made = topology.client()
            open_clients.callback(made.close)
            return made

        return read_servers(client(url), client(operator_url) if operator_url else None)


def read_servers(site: Client, operator: Client | None = None) -> list[ServerFacts]:
    """Of each server behind a client: one, or every node of a cluster.

    ``site`` asks as the site does, whose right to run scripts is what matters. ``operator`` is who
    may read INFO and CONFIG, where the site may not.
    """
    try:
        as_site = _nodes(site)
        asked = _nodes(operator) if operator is not None else as_site
    except (redis.RedisError, OSError) as error:  # a cluster of which no node answers
        return [ServerFacts("the cluster", error=f"{type(error).__name__}: {error}")]
    found = []
    for address, node in asked.items():
        # The operator may know a single server by another name.
        own = as_site.get(address) or next(iter(as_site.values()))
        facts = read_server(node, address)
        if facts.error and own is not node:
            # Perhaps only the operator's login is wrong: what does the site see?
            why = f"as the operator: {facts.error}"
            facts = read_server(own, address)
            facts = replace(facts, refused=(why, *facts.refused))
        found.append(_with_scripts(facts, own))
    return found


def read_server(client: redis.Redis, address: str = "") -> ServerFacts:
    """What one server says; ``error`` where it does not answer. Raises nothing of redis-py's."""
    facts = ServerFacts(address or address_of(client))
    refused: list[str] = []
    try:
        facts = replace(facts, round_trip_us=_round_trip_us(client))
        facts = replace(facts, **_of_info(_ask(client, refused, "INFO") or {}))
        facts = replace(facts, **_of_config(client, refused))
    except (redis.RedisError, OSError) as error:
        return replace(facts, error=f"{type(error).__name__}: {error}", refused=tuple(refused))
    return replace(facts, refused=tuple(refused))


def address_of(client: redis.Redis) -> str:
    """Where it leads, without user and password."""
    pool: Any = client.connection_pool
    options = pool.connection_kwargs
    if options.get("path"):
        return str(options["path"])
    if "host" in options:
        return f"{options['host']}:{options.get('port', 6379)}"
    return f"{getattr(pool, 'service_name', 'the primary')}, by Sentinel"


def _nodes(client: Client) -> dict[str, redis.Redis]:
    if not isinstance(client, RedisCluster):
        return {address_of(client): client}
    return {
        f"{node.host}:{node.port}": client.get_redis_connection(node)
        for node in client.get_nodes()  # type: ignore[no-untyped-call]
    }


def _round_trip_us(client: redis.Redis) -> int:
    """The best of a few: what a check has to wait for at least."""
    _ping(client)  # connects
    best_us = LOOK_TIMEOUT_MS * 1_000
    for _ in range(PINGS):
        before_ns = time.perf_counter_ns()
        _ping(client)
        best_us = min(best_us, (time.perf_counter_ns() - before_ns) // 1_000)
    return best_us


def _ping(client: redis.Redis) -> None:
    """Who may not ask gets an answer too."""
    with contextlib.suppress(redis.exceptions.NoPermissionError):
        client.ping()


def _ask(client: redis.Redis, refused: list[str], *words: str) -> Any:
    """The reply; None where this user may not ask, or the service has no such command."""
    try:
        return client.execute_command(*words)
    except redis.exceptions.NoPermissionError as error:
        refused.append(f"{' '.join(words)}: {error}")
    except redis.ResponseError as error:
        if type(error) is not redis.ResponseError or "unknown" not in str(error).lower():
            raise
        refused.append(f"{' '.join(words)}: {error}")
    return None


def _of_info(info: dict[str, Any]) -> dict[str, Any]:
    """The part of ServerFacts that INFO says, where it says it."""
    version = info.get("valkey_version") or info.get("redis_version")
    speaks = str(info.get("redis_version") or "")
    role = {"master": "primary", "slave": "replica"}.get(str(info.get("role")))
    return {
        "flavour": str(info.get("server_name") or "redis").title() if version else None,
        "version": version and str(version),
        "speaks": _version(speaks),
        "role": role,
        "replicas": info.get("connected_slaves"),
        "clustered": bool(info["cluster_enabled"]) if "cluster_enabled" in info else None,
        "maxmemory": info.get("maxmemory"),
        "used_memory": info.get("used_memory"),
        "policy": info.get("maxmemory_policy"),
        "evicted": info.get("evicted_keys"),
        "clients": info.get("connected_clients"),
        "maxclients": info.get("maxclients"),
        "append_only": bool(info["aof_enabled"]) if "aof_enabled" in info else None,
    }


def _version(text: str) -> tuple[int, ...] | None:
    parts = text.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else None


def _of_config(client: redis.Redis, refused: list[str]) -> dict[str, Any]:
    """What INFO leaves out. Asked by name: all of it would hold passwords."""
    found: dict[str, Any] = {}
    for name, field, read in (
        ("timeout", "timeout_s", int),
        ("save", "snapshots", bool),
    ):
        shown = _ask(client, refused, "CONFIG GET", name)
        if shown is None:
            break
        if name in shown:
            found[field] = read(shown[name])
    return found


def _with_scripts(facts: ServerFacts, client: redis.Redis) -> ServerFacts:
    """Asks for a check of nobody: nothing is loaded, read or written."""
    if facts.error:
        return facts
    try:
        client.evalsha(scripts.load("check").sha, 0, NO_CHECK)
    except redis.exceptions.NoScriptError:
        return replace(facts, scripts=Scripts.NOT_LOADED)
    except (redis.RedisError, OSError) as error:
        refused = kind_of(error) in (Kind.AUTH, None)
        state = Scripts.REFUSED if refused else Scripts.UNKNOWN
        return replace(facts, scripts=state, scripts_error=str(error))
    return replace(facts, scripts=Scripts.READY)
