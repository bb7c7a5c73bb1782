"""Celery's broker in kombu's words, from a URL as REDIS_URL is written.

| ours                                           | kombu's                                        |
| `unix:///path?db=1`                            | `redis+socket:///path?virtual_host=1`          |
| `redis+sentinel://:secret@a,b:26379/service/1` | `sentinel://:secret@a:26379/1;sentinel://...`, |
|                                                | and `service` as the option `master_name`      |

A cluster is no broker: kombu needs several keys at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from apps.ratelimits.storage.topology import Kind, Topology

_OF_SENTINELS = {"db", "username", "password", "socket_timeout", "socket_connect_timeout"}


@dataclass(frozen=True, slots=True)
class Broker:
    """``url`` and ``options`` are Celery's broker_url and broker_transport_options."""

    url: str = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, url: str) -> Broker:
        """Raises ValueError where Celery cannot use what ``url`` names."""
        # Not urlsplit: to it several addresses, one of them an IPv6 one, are no address.
        scheme = url.partition(":")[0].lower()
        if scheme == "unix":
            return cls(_socket(url))
        if not scheme.endswith(("+sentinel", "+cluster")):
            return cls(url)
        topology = Topology.parse(url, timeout_ms=1_000, max_connections=1)
        if topology.kind is Kind.CLUSTER:
            raise ValueError("Celery cannot use a cluster")
        if topology.tls or not topology.options.keys() <= _OF_SENTINELS:
            raise ValueError("Celery is not told of TLS or of options for Sentinels from here")
        return _sentinels(topology)


def _socket(url: str) -> str:
    topology = Topology.parse(url, timeout_ms=1_000, max_connections=1)
    userinfo, at, _ = urlsplit(url).netloc.rpartition("@")
    return f"redis+socket://{userinfo}{at}{topology.path}?virtual_host={topology.options['db']}"


def _sentinels(topology: Topology) -> Broker:
    options = topology.options
    userinfo = quote(options.get("username", ""), safe="")
    if "password" in options:
        userinfo += ":" + quote(options["password"], safe="")
    urls = []
    for host, port in topology.addresses:
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        urls.append(f"sentinel://{userinfo}{'@' if userinfo else ''}{place}/{options['db']}")
    told: dict[str, Any] = {"master_name": topology.service}
    if topology.sentinel_options:
        told["sentinel_kwargs"] = dict(topology.sentinel_options)
    return Broker(";".join(urls), told)
