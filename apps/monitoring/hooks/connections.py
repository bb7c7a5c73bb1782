"""The pools of connections, over all processes that serve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.processes import LOST_MS
from apps.ratelimits.storage.server_findings import MANY_CLIENTS, Finding, Level
from apps.ratelimits.storage.usage import Usage

from ..amounts import counted
from ..look import Look, NotSaid, unknown
from ..registry import Topic, finding

BUSY = 0.8
MANY_WAITS, ENOUGH_WAITS = 0.01, 20
"""Of the checks; and so many, since the first ones open connections."""


@dataclass(frozen=True, slots=True)
class Pools:
    """``in_use`` is per process; None where a process does not say. ``size`` is of each, to each
    server. ``maxclients`` and ``clients`` by server."""

    in_use: tuple[int | None, ...]
    size: int
    checks: int | None = None
    waits: int | None = None
    servers: tuple[tuple[str, int, int], ...] = ()


@finding("pool", Topic.LIMITER, "Connections to Redis", limit_s=4)
def pool(look: Look) -> Iterator[Finding]:
    try:
        alive = look.engine.processes.alive()
    except Unavailable as error:
        why = NotSaid(str(error.__cause__ or error), "See what the servers say.")
        yield unknown("how many connections are in use", "the processes that serve", why)
        return
    used = [status.pool_in_use for status in alive]
    total = read_usage(look)
    checks = sum(total.checks) if total else None
    waits = total.pool_waits if total else None
    size = look.config.redis_max_connections
    yield from judge(Pools(tuple(used), size, checks, waits, tuple(_servers(look))))


def read_usage(look: Look) -> Usage | None:
    """What the limiter counted; None where it cannot be had."""
    try:
        return look.engine.usage.read()
    except Unavailable:
        return None


def _servers(look: Look) -> Iterator[tuple[str, int, int]]:
    """Of those that say: address, connections, and the most that it takes."""
    try:
        for node in look.nodes:
            info = look.info(node)
            if "maxclients" in info:
                yield node.address, int(info["connected_clients"]), int(info["maxclients"])
    except NotSaid:
        return


def judge(pools: Pools) -> Iterator[Finding]:
    where = "the processes that serve"
    if not pools.in_use:
        yield unknown(
            "how many connections are in use",
            where,
            f"no process has said within {LOST_MS // 1000} s that it serves",
            "Start the site; each process says so once it has answered a request.",
        )
        return
    yield from _in_use(pools, where)
    yield from _waits(pools, where)
    yield from _over_all(pools)


def _in_use(pools: Pools, where: str) -> Iterator[Finding]:
    said = [number for number in pools.in_use if number is not None]
    if not said:
        why = f"of {counted(len(pools.in_use), 'process')} none says how many it uses"
        yield unknown("how many connections are in use", where, why, "Update all processes.")
        return
    evidence = (
        f"{sum(said):,} in use in {counted(len(said), 'process')}, {max(said):,} at most in one, "
        f"of {pools.size:,} each (IOTA_REDIS_MAX_CONNECTIONS)"
    )
    if max(said) >= BUSY * pools.size:
        yield Finding(
            Level.WARNING,
            "pool-busy",
            where,
            "A process uses nearly all connections that it may have: checks wait for one.",
            evidence,
            "See why checks take long (`manage.py doctor --only latency`); then raise "
            "IOTA_REDIS_MAX_CONNECTIONS, or run more processes.",
        )
    else:
        yield Finding(Level.INFO, "pool", where, "Connections are left in each process.", evidence)


def _waits(pools: Pools, where: str) -> Iterator[Finding]:
    if pools.waits is None or pools.checks is None:
        yield unknown(
            "how often a check had to wait for a connection",
            where,
            "the limiter's counters cannot be read",
            "See `manage.py doctor --only requests`.",
        )
        return
    if pools.waits >= max(ENOUGH_WAITS, MANY_WAITS * pools.checks):
        yield Finding(
            Level.WARNING,
            "pool-waits",
            where,
            "Checks had to wait for a connection to Redis.",
            f"{pools.waits:,} waits in {pools.checks:,} checks "
            f"({100 * pools.waits / max(1, pools.checks):.1f} %)",
            "Raise IOTA_REDIS_MAX_CONNECTIONS above the threads or tasks of a process.",
        )


def _over_all(pools: Pools) -> Iterator[Finding]:
    most = len(pools.in_use) * pools.size
    for address, clients, maxclients in pools.servers:
        if most > MANY_CLIENTS * maxclients:
            yield Finding(
                Level.WARNING,
                "pools-over-maxclients",
                address,
                "If all processes used all connections that they may have, the server would refuse "
                "some.",
                f"{counted(len(pools.in_use), 'process')} with {pools.size:,} each: {most:,}; "
                f"maxclients {maxclients:,}, {clients:,} connected now",
                "Raise maxclients and the open files of the server's process, or lower "
                "IOTA_REDIS_MAX_CONNECTIONS.",
            )
