"""Which servers a REDIS_URL names, and the connections to them.

``redis://``, ``rediss://``, ``unix://``              one server, as redis-py reads them
``redis+sentinel://host:26379,host:26379/service/0``  Sentinels, and the primary that they name
``redis+cluster://host:6379,host:6379``               a cluster, and nodes to ask for the others

``rediss+sentinel://`` and ``rediss+cluster://`` are the same over TLS.

Nothing that is made here sends a command again by itself: redis-py would send a slow check up to
ten times, and each of them would be charged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.sentinel
import redis.connection
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from .cluster_client import ClusterClient

Address = tuple[str, int]
Client = redis.Redis | ClusterClient

_EXAMPLES = {
    "redis": "redis://host:6379/0",
    "rediss": "rediss://host:6379/0",
    "unix": "unix:///path/of/socket?db=0",
    "redis+sentinel": "redis+sentinel://host:26379,host:26379/service/0",
    "rediss+sentinel": "rediss+sentinel://host:26379,host:26379/service/0",
    "redis+cluster": "redis+cluster://host:6379,host:6379",
    "rediss+cluster": "rediss+cluster://host:6379,host:6379",
}
SCHEMES = tuple(_EXAMPLES)
REDIS_PORT = 6379
SENTINEL_PORT = 26379

OPTIONS = frozenset(
    {
        "client_name",
        "db",
        "health_check_interval",
        "password",
        "protocol",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_read_size",
        "socket_timeout",
        "username",
    }
)
TLS_OPTIONS = frozenset(
    {
        "ssl_ca_certs",
        "ssl_ca_data",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_ciphers",
        "ssl_exclude_verify_flags",
        "ssl_include_verify_flags",
        "ssl_keyfile",
        "ssl_min_version",
        "ssl_password",
    }
)
SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
"""Of redis-py's own, those that code alone can give are left out, and those that would make it
send a command again or change what a reply looks like."""


class Kind(StrEnum):
    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Topology:
    """``addresses``: the one server (none for a Unix socket), the Sentinels, or the nodes of the
    cluster that are asked first. ``service`` is the Sentinels' name for the primary.
    ``options`` are redis-py's, of each connection; ``sentinel_options`` those of Sentinels alone.

    Timeouts in the URL win over ``timeout_ms``.
    """

    kind: Kind
    addresses: tuple[Address, ...]
    path: str
    tls: bool
    service: str
    max_connections: int
    options: Mapping[str, Any] = field(repr=False)
    sentinel_options: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, url: str, *, timeout_ms: int, max_connections: int) -> Topology:
        """Raises ValueError, whose text says what is wrong and what to write, and no password."""
        scheme, separator, _ = url.partition("://")
        if not separator or scheme not in SCHEMES:
            raise ValueError("begin it with " + ", ".join(f"{known}://" for known in SCHEMES))
        kind = Kind(scheme.partition("+")[2] or Kind.SINGLE)
        try:
            addresses, path, options = _read(url, kind)
            service, path = _service_and_rest(path) if kind is Kind.SENTINEL else ("", path)
            _refuse_options(options, kind, tls=scheme.startswith("rediss"))
            if scheme != "unix":
                options["db"], path = _database(path, options), ""
            if kind is Kind.CLUSTER and options.pop("db"):
                raise ValueError("a cluster has only database 0")
            timeout_s = timeout_ms / 1000
            timeouts = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
            options = timeouts | options
            about_sentinels = {
                name.removeprefix("sentinel_"): options.pop(name)
                for name in SENTINEL_OPTIONS & options.keys()
            }
            tls = scheme.startswith("rediss")
            made = cls(
                kind, addresses, path, tls, service, max_connections, options, about_sentinels
            )
            # redis-py looks at some options only when it makes a connection.
            pool = made.pool(addresses[0] if kind is Kind.CLUSTER else None)
            pool.connection_class(**pool.connection_kwargs)
        except (ValueError, TypeError, redis.RedisError) as error:
            raise ValueError(f"{error}; write it as {_EXAMPLES[scheme]}") from error
        return made

    def pool(self, address: Address | None = None) -> redis.ConnectionPool:
        """Of the one server, of the primary that the Sentinels name whenever a connection is made,
        or of a cluster's node at ``address``."""
        made = redis.connection
        options = self._pool_options(Retry(NoBackoff(), 0))
        if self.kind is Kind.SENTINEL:
            sentinels = Sentinels(self.addresses, self._options_of_sentinels())
            return redis.sentinel.SentinelConnectionPool(
                self.service, sentinels, ssl=self.tls, **options
            )
        if self.path:
            unix = made.UnixDomainSocketConnection
            return redis.ConnectionPool(unix, path=self.path, **options)
        host, port = self._address(address)
        connection_class = made.SSLConnection if self.tls else made.Connection
        return redis.ConnectionPool(connection_class, host=host, port=port, **options)

    def async_pool(self, address: Address | None = None) -> redis.asyncio.ConnectionPool:
        """``pool`` for one event loop: its connections belong to the loop that opened them."""
        made = redis.asyncio.connection
        options = self._pool_options(AsyncRetry(NoBackoff(), 0))
        if self.kind is Kind.SENTINEL:
            sentinels = AsyncSentinels(self.addresses, self._options_of_sentinels())
            return redis.asyncio.sentinel.SentinelConnectionPool(
                self.service, sentinels, ssl=self.tls, **options
            )
        if self.path:
            unix = made.UnixDomainSocketConnection
            return redis.asyncio.ConnectionPool(unix, path=self.path, **options)
        host, port = self._address(address)
        connection_class = made.SSLConnection if self.tls else made.Connection
        return redis.asyncio.ConnectionPool(connection_class, host=host, port=port, **options)

    def client(self) -> Client:
        """For what is not on the request path. Replies are bytes."""
        if self.kind is not Kind.CLUSTER:
            return redis.Redis.from_pool(self.pool())
        return ClusterClient(
            self.addresses,
            ssl=self.tls,
            max_connections=self.max_connections,
            **self.options,
        )

    def at(self, address: Address) -> Topology:
        """One of its servers alone, as this one is reached."""
        return replace(self, kind=Kind.SINGLE, addresses=(address,), service="")

    def sentinel_at(self, address: Address) -> redis.Redis:
        """A client of one of its Sentinels."""
        host, port = address
        options = {**self._options_of_sentinels(), "retry": Retry(NoBackoff(), 0)}
        return redis.Redis(host=host, port=port, **options)

    def _address(self, address: Address | None) -> Address:
        if (address is None) is (self.kind is Kind.CLUSTER):
            raise ValueError("an address is what a node of a cluster has, and only that")
        return address or self.addresses[0]

    def _pool_options(self, retry: Retry | AsyncRetry) -> dict[str, Any]:
        return {**self.options, "retry": retry, "max_connections": self.max_connections}

    def _options_of_sentinels(self) -> dict[str, Any]:
        """They have passwords of their own, and the same TLS."""
        like = {
            name: value
            for name, value in self.options.items()
            if name.startswith(("socket_", "ssl_"))
        }
        return {**like, **self.sentinel_options, "ssl": self.tls}


class Sentinels:
    """Asks them anew for each connection that is made. redis-py's own class would keep a
    connection to each, and lose one of them where two threads ask at once."""

    def __init__(self, addresses: Sequence[Address], options: Mapping[str, Any]) -> None:
        self._addresses = tuple(addresses)
        self._options = {**options, "retry": Retry(NoBackoff(), 0)}

    def discover_master(self, service: str) -> Address:
        """Raises redis.ConnectionError where none of them knows of a primary that works."""
        options = dict(self._options)
        with redis.sentinel.Sentinel(self._addresses, sentinel_kwargs=options) as asked:
            found: Address = asked.discover_master(service)
            # Who answered is asked first next time.
            self._addresses = tuple(map(_address_of, asked.sentinels))
        return found


class AsyncSentinels:
    """``Sentinels`` for one event loop."""

    def __init__(self, addresses: Sequence[Address], options: Mapping[str, Any]) -> None:
        self._addresses = tuple(addresses)
        self._options = {**options, "retry": AsyncRetry(NoBackoff(), 0)}

    async def discover_master(self, service: str) -> Address:
        options = dict(self._options)
        async with redis.asyncio.sentinel.Sentinel(
            self._addresses, sentinel_kwargs=options
        ) as asked:
            found: Address = await asked.discover_master(service)
            self._addresses = tuple(map(_address_of, asked.sentinels))
        return found


def _address_of(client: redis.Redis | redis.asyncio.Redis) -> Address:
    options = client.connection_pool.connection_kwargs
    return options["host"], options["port"]


def _read(url: str, kind: Kind) -> tuple[tuple[Address, ...], str, dict[str, Any]]:
    """Addresses, path and options. Raises ValueError."""
    if "#" in url:
        raise ValueError("'#' stands in it: in a password it is written %23")
    place, _, query = url.partition("://")[2].partition("?")
    place, slash, path = place.partition("/")
    userinfo, _, hosts = place.rpartition("@")
    if kind is not Kind.SINGLE and "@" in userinfo:
        raise ValueError("user and password stand once, before the first host; '@' in them is %40")
    options: dict[str, Any] = redis.connection.parse_url(f"redis://?{query}")
    name, colon, password = userinfo.partition(":")
    named = {"username": unquote(name)} if name else {}
    options |= named | ({"password": unquote(password)} if colon else {})
    if url.startswith("unix:"):
        if hosts or not path:
            raise ValueError("a socket is named by a path with three slashes before it")
        return (), unquote(slash + path), options
    port = SENTINEL_PORT if kind is Kind.SENTINEL else REDIS_PORT
    each = hosts.split(",") if kind is not Kind.SINGLE else [hosts]
    return tuple(_one_address(host, port) for host in each), path, options


def _one_address(text: str, port: int) -> Address:
    """``host``, ``host:port`` or ``[IPv6]:port``. Raises ValueError."""
    if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+(%\w+)?\]|[^\s:,@\[\]]+)(:[0-9]*)?", text):
        raise ValueError("a host is missing or not understood")
    parts = urlsplit(f"//{text}")
    if parts.port == 0:
        raise ValueError("a port is a number from 1 to 65535")
    return unquote(parts.hostname or ""), parts.port or port


def _service_and_rest(path: str) -> tuple[str, str]:
    service, _, rest = path.partition("/")
    if not service:
        raise ValueError("the Sentinels' name for the primary is missing")
    return unquote(service), rest


def _database(path: str, options: Mapping[str, Any]) -> int:
    """redis-py would take a database that is no number for database 0."""
    if not re.fullmatch(r"[0-9]*", path):
        raise ValueError("the database is no number")
    return int(options.get("db", path or 0))


def _refuse_options(options: Mapping[str, Any], kind: Kind, *, tls: bool) -> None:
    known = OPTIONS | (TLS_OPTIONS if tls else set())
    if kind is Kind.SENTINEL:
        known |= SENTINEL_OPTIONS
    for name in options:
        if name in known:
            continue
        if name in TLS_OPTIONS:
            raise ValueError(f"{name} is for TLS, whose scheme begins with rediss")
        raise ValueError(f"no option {name[:30]!r}; there are {', '.join(sorted(known))}")
