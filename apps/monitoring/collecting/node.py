"""One server: asked as the operator where there is one, else as the site, and changed in nothing.

What this user may not ask, or the server does not have, is unknown with the server's words.
CLIENT LIST costs a server more the more connections it has: of many it is not asked.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import redis

from apps.ratelimits.storage.server_facts import address_of
from apps.ratelimits.storage.topology import Address, Topology

from ..metrics import Kind
from . import cluster, commands, info
from .taken import Said, Taken

WHOLE_S = 3.0
"""So long one server is asked, all in all; a command that was sent may take a second more."""
PINGS = 3
MOST_CLIENTS = 1_000
MAX_ERROR_CHARS = 500
REFUSED_CHARS = 200


class Refused(Exception):
    """What cannot be asked, and why."""


@dataclass
class Asking:
    client: redis.Redis
    deadline_s: float = field(default_factory=lambda: time.monotonic() + WHOLE_S)

    def __call__(self, *words: Any) -> Any:
        """The reply. Raises Refused; redis.RedisError and OSError where the server is the cause."""
        if time.monotonic() > self.deadline_s:
            raise Refused(f"the server took more than {WHOLE_S:g} s for what came before")
        try:
            return self.client.execute_command(*words)
        except redis.exceptions.NoPermissionError as error:
            raise Refused(f"{words[0]}: {error}"[:REFUSED_CHARS]) from error
        except redis.ResponseError as error:
            known = type(error) is not redis.ResponseError or "unknown" not in str(error).lower()
            if known:
                raise
            raise Refused(f"{words[0]}: {error}"[:REFUSED_CHARS]) from error


def look(site: Topology, operator: Topology | None, address: Address) -> Taken:
    """What the server at ``address`` says. Raises nothing of redis-py's."""
    taken = _as(operator or site, address)
    if operator is not None and isinstance(taken, _NotLetIn):
        # Perhaps only the operator's login is wrong: the site's own can say more than nothing.
        as_site = _as(site, address)
        if not as_site.error:
            why = f"as the operator: {taken.error}"[:REFUSED_CHARS]
            unknown = dict.fromkeys(as_site.said.unknown, why)
            return replace(as_site, said=as_site.said | Said(unknown=unknown))
    return taken


@dataclass(frozen=True, slots=True)
class _NotLetIn(Taken):
    """The server is there, and knows no such user."""


def _as(topology: Topology, address: Address) -> Taken:
    one = topology.at(address) if address[0] else topology
    with one.client() as client:
        where = address_of(client)
        try:
            return _read(Asking(client), where)
        except (redis.RedisError, OSError) as error:
            text = f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARS]
            made = _NotLetIn if isinstance(error, redis.AuthenticationError) else Taken
            return made(Kind.NODE, where, error=text)


def _read(ask: Asking, where: str) -> Taken:
    said = Said({"round_trip_us": _round_trip_us(ask)})
    try:
        found = ask("INFO")
    except Refused as refused:
        why = str(refused)
        # Rates are made of INFO, which alone tells one run of the server from the next.
        nothing = (*info.METRICS, "replication_lag_s", "replicas_lost", *_OF_OTHERS)
        return Taken(Kind.NODE, where, said | Said.nothing(nothing, why))
    now_s = info.clock_s(found) or time.time()
    said |= info.said_of(found)
    for metrics, read in _parts(ask, found, now_s):
        try:
            said |= read()
        except Refused as refused:
            said |= Said.nothing(metrics, str(refused))
    return Taken(
        Kind.NODE,
        where,
        said,
        now_s,
        run_id=str(found.get("run_id", ""))[:40],
        role=info.role(found),
        server=info.server(found),
        replicas=info.replicas(found),
    )


_OF_OTHERS = ("command_us", "command_p99_us", "slow_per_s", "latency_event_us", "output_bytes")


def _parts(
    ask: Asking, found: dict[str, Any], now_s: float
) -> Iterator[tuple[tuple[str, ...], Callable[[], Said]]]:
    """What INFO leaves out: each with the metrics that it is for."""
    yield ("command_us",), lambda: commands.of_commandstats(ask("INFO", "commandstats"))
    yield (
        ("command_p99_us",),
        lambda: commands.of_histogram(ask("LATENCY HISTOGRAM", commands.SCRIPT)),
    )
    yield (
        ("slow_per_s",),
        lambda: commands.of_slowlog(ask("SLOWLOG GET", 1), ask("SLOWLOG LEN")),
    )
    yield (
        ("latency_event_us",),
        lambda: commands.of_latest(ask("LATENCY LATEST"), _threshold_ms(ask), now_s),
    )
    yield ("output_bytes",), lambda: _clients(ask, found)
    if found.get("cluster_enabled"):
        yield cluster.METRICS, lambda: cluster.of_nodes(ask("CLUSTER NODES"), now_s)
        yield cluster.LINK_METRICS, lambda: cluster.of_links(ask("CLUSTER LINKS"))


def _clients(ask: Asking, found: dict[str, Any]) -> Said:
    if found.get("connected_clients", 0) > MOST_CLIENTS:
        raise Refused(f"CLIENT LIST is not asked of more than {MOST_CLIENTS:,} connections")
    return commands.of_clients(ask("CLIENT LIST"))


def _threshold_ms(ask: Asking) -> int | None:
    """From which on the server notes an event; None where it may not be asked."""
    try:
        shown = ask("CONFIG GET", "latency-monitor-threshold")
    except Refused:
        return None
    return int(shown.get("latency-monitor-threshold", 0))


def _round_trip_us(ask: Asking) -> float:
    """The best of a few: the way there and back, and not what else the server did. A refusal is
    an answer too."""

    def ping() -> float:
        before_ns = time.perf_counter_ns()
        with contextlib.suppress(Refused):
            ask("PING")
        return (time.perf_counter_ns() - before_ns) / 1000

    ping()  # connects
    return min(ping() for _ in range(PINGS))
