"""The way to Redis that a REDIS_URL names: one node, or a cluster of them."""

from __future__ import annotations

from typing import Any, Protocol

from .cluster import Address, Cluster, ClusterNode
from .failures import Failures
from .keys import Keys
from .node import Node
from .topology import Client, Kind, Topology

Transport = Node | Cluster


class Config(Protocol):
    """The part of the site's RateLimitConfig that leads to Redis."""

    @property
    def redis_url(self) -> str: ...
    @property
    def key_prefix(self) -> str: ...
    @property
    def redis_timeout_ms(self) -> int: ...
    @property
    def redis_max_connections(self) -> int: ...
    @property
    def breaker_failures(self) -> int: ...
    @property
    def breaker_open_ms(self) -> int: ...


def topology(config: Config) -> Topology:
    return Topology.parse(
        config.redis_url,
        timeout_ms=config.redis_timeout_ms,
        max_connections=config.redis_max_connections,
    )


def make_transport(config: Config, client: Client, noted: Failures) -> Transport:
    """Nothing is connected yet. ``client``: a single node is connected as it is; ``noted``: where
    failed calls are counted."""
    found = topology(config)
    options: dict[str, Any] = {
        "noted": noted,
        "timeout_s": config.redis_timeout_ms / 1000,
        "most": config.redis_max_connections,
        "failures": config.breaker_failures,
        "open_s": config.breaker_open_ms / 1000,
        "probe_key": Keys(config.key_prefix).probe,
    }
    if found.kind is not Kind.CLUSTER:
        pool = client.connection_pool
        return Node(_name(found), pool, found.async_pool, **options)

    def make_node(address: Address) -> ClusterNode:
        pool = found.pool(address)
        return ClusterNode(address, pool, lambda: found.async_pool(address), **options)

    return Cluster(found.addresses, make_node, timeout_s=options["timeout_s"])


def _name(found: Topology) -> str:
    """For logs and staff."""
    if found.kind is Kind.SENTINEL:
        return found.service
    return ":".join(map(str, found.addresses[0])) if found.addresses else found.path
