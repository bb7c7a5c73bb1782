"""Django's cache over django-redis, on whatever servers REDIS_URL names.

The limiter's counters are on the same servers and in the same database, so that emptying the
cache must remove the cache's keys only. django-redis would empty the database.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any, ParamSpec, TypeVar

import redis
from django.core.cache.backends.base import BaseCache
from django_redis.client import DefaultClient
from django_redis.client.default import glob_escape
from django_redis.exceptions import ConnectionInterrupted

from apps.ratelimits.storage.cluster_client import ClusterClient
from apps.ratelimits.storage.topology import Client, Topology

MAX_CONNECTIONS = 100
"""Of one process, to each server."""
KEYS_PER_CALL = 500

P = ParamSpec("P")
R = TypeVar("R")

_AWAY = redis.ConnectionError, redis.TimeoutError, redis.ResponseError


@functools.cache
def _client(url: str, timeout_ms: int) -> Client:
    """Django makes a cache for each thread: they share connections."""
    topology = Topology.parse(url, timeout_ms=timeout_ms, max_connections=MAX_CONNECTIONS)
    return topology.client()


class ConnectionFactory:
    """django-redis' own knows one server and Sentinels, and URLs of its own for those."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._timeout_ms = int(options["SOCKET_TIMEOUT"] * 1000)

    def connect(self, url: str) -> Client:
        return _client(url, self._timeout_ms)

    def disconnect(self, client: Client) -> None:
        """Its connections; it makes others when it is used again."""
        if isinstance(client, ClusterClient):
            client.begin_anew()
        else:
            client.connection_pool.disconnect()


def _interrupted(method: Callable[P, R]) -> Callable[P, R]:
    """As django-redis does in most of its methods: so that a cache that is away is passed over."""

    @functools.wraps(method)
    def call(*args: P.args, **options: P.kwargs) -> R:
        try:
            return method(*args, **options)
        except _AWAY as error:
            raise ConnectionInterrupted(connection=None) from error

    return call


class CacheClient(DefaultClient):  # type: ignore[misc, unused-ignore]
    """What of django-redis' client is not for a cluster, or not for a shared database."""

    _backend: BaseCache

    touch = _interrupted(DefaultClient.touch)
    persist = _interrupted(DefaultClient.persist)
    expire = _interrupted(DefaultClient.expire)
    pexpire = _interrupted(DefaultClient.pexpire)
    expire_at = _interrupted(DefaultClient.expire_at)
    pexpire_at = _interrupted(DefaultClient.pexpire_at)
    ttl = _interrupted(DefaultClient.ttl)
    pttl = _interrupted(DefaultClient.pttl)

    @_interrupted
    def clear(self, client: Any = None) -> None:
        """Of every version, and of this cache alone."""
        client = client or self.get_client(write=True)
        names: list[bytes] = []
        pattern = f"{glob_escape(self._backend.key_prefix)}:*"
        for name in client.scan_iter(match=pattern, count=KEYS_PER_CALL):
            names.append(name)
            if len(names) >= KEYS_PER_CALL:
                client.unlink(*names)
                names.clear()
        if names:
            client.unlink(*names)

    def keys(self, search: str, version: int | None = None, client: Any = None) -> list[str]:
        """KEYS would hold the server up, and of a cluster ask one node."""
        return _interrupted(list)(self.iter_keys(search, version=version, client=client))

    def get_many(
        self, keys: Collection[str], version: int | None = None, client: Any = None
    ) -> dict[str, Any]:
        client = client or self.get_client(write=False)
        if not isinstance(client, ClusterClient):
            found: dict[str, Any] = super().get_many(keys, version=version, client=client)
            return found
        names = {self.make_key(key, version=version): key for key in keys}
        if not names:
            return {}
        values = _interrupted(client.mget_nonatomic)(*names)
        pairs = zip(names.values(), values, strict=True)
        return {key: self.decode(value) for key, value in pairs if value is not None}
