"""Which servers there are.

The URL names one server, Sentinels who know the primary and its replicas, or some nodes of a
cluster who know all. Each that can be asked is asked, at the same time: one that has lost sight of
the others must not be the one whose word counts.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import redis

from apps.ratelimits.storage.topology import Address, Kind, Topology

from .cluster import flags_of

LOOK_S = 1.0
"""Longer than a check waits: a server that is merely slow is to say so."""
MOST_ASKED = 16


def bounded(url: str) -> Topology:
    """However long the site's own connections may wait. Raises ValueError."""
    topology = Topology.parse(url, timeout_ms=round(LOOK_S * 1000), max_connections=2)
    options = {"socket_timeout": LOOK_S, "socket_connect_timeout": LOOK_S}
    return replace(topology, options={**topology.options, **options})


def servers(topology: Topology) -> list[Address] | None:
    """Each that there is; None where nobody who knows them answers.

    A server on a Unix socket has no address of its own: ``("", 0)``.
    """
    if topology.kind is Kind.SINGLE:
        return [topology.addresses[0] if topology.addresses else ("", 0)]
    ask = _by_sentinel if topology.kind is Kind.SENTINEL else _by_node
    return _asked(topology, ask)


def _asked(
    topology: Topology, ask: Callable[[Topology, Address], list[Address]]
) -> list[Address] | None:
    first = topology.addresses[:MOST_ASKED]
    with ThreadPoolExecutor(len(first)) as threads:
        views = list(threads.map(lambda address: _or_none(ask, topology, address), first))
    known = [view for view in views if view]
    return list(dict.fromkeys(one for view in known for one in view)) if known else None


def _or_none(
    ask: Callable[[Topology, Address], list[Address]], topology: Topology, address: Address
) -> list[Address] | None:
    try:
        return ask(topology, address)
    except (redis.RedisError, OSError):
        return None


def _by_sentinel(topology: Topology, address: Address) -> list[Address]:
    """The primary first."""
    with topology.sentinel_at(address) as sentinel:
        primary = sentinel.sentinel_get_master_addr_by_name(topology.service)
        replicas = sentinel.sentinel_slaves(topology.service)
    found = [(str(one["ip"]), int(one["port"])) for one in replicas]
    return [(_text(primary[0]), int(primary[1])), *found] if primary else []


def _by_node(topology: Topology, address: Address) -> list[Address]:
    with topology.at(address).client() as node:
        nodes = node.execute_command("CLUSTER NODES")
    found = []
    for place, said in nodes.items():
        flags = flags_of(said)
        if flags & {"noaddr", "handshake"}:
            continue
        host, _, port = place.rpartition(":")
        # A node that was never met does not know its own address. A certificate names hosts.
        host = (said.get("hostname") if topology.tls else "") or host or address[0]
        found.append((host.strip("[]"), int(port)))
    return found


def _text(word: bytes | str) -> str:
    return word.decode() if isinstance(word, bytes) else word
