"""What the hooks of one diagnosis share: its connections, and what was asked already.

A server that did not answer one hook is not waited for by the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import redis
from redis.cluster import RedisCluster

from apps.ratelimits.engine import Engine, get_engine
from apps.ratelimits.storage.server_facts import LOOK_TIMEOUT_MS, MOST_CONNECTIONS, address_of
from apps.ratelimits.storage.server_findings import Finding, Level
from apps.ratelimits.storage.topology import Client, Topology

READERS = (
    "Name a user who may in IOTA_REDIS_OPERATOR_URL (iota-operator in deploy/redis/users.acl); of "
    "a managed service, look it up in its console."
)

MEND = "Start the server, or mend its URL, the password or the network."


class NotSaid(Exception):
    """A server refused to say something, or did not answer: its words, without a secret."""

    def __init__(self, words: str, to_do: str = READERS) -> None:
        super().__init__(words)
        self.to_do = to_do


@dataclass(frozen=True, slots=True)
class Node:
    """One server of the counters, or one node of their cluster. ``operator`` is who may read INFO
    and CONFIG; where nobody is named, the site's own user."""

    address: str
    site: redis.Redis
    operator: redis.Redis
    clustered: bool


class Look:
    """One diagnosis. ``worker`` is the Celery worker that it runs in, if it does."""

    def __init__(self, engine: Engine | None = None, *, worker: str = "") -> None:
        self.engine = engine or get_engine()
        self.config = self.engine.config
        self.worker = worker
        self._clients: list[Client] = []
        self._silent: dict[str, str] = {}
        self._infos: dict[str, dict[str, Any]] = {}

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Raises NotSaid where not even the nodes' names can be had."""
        try:
            site = _by_address(self._client(self.config.redis_url))
            url = self.config.redis_operator_url
            operators = _by_address(self._client(url)) if url else site
        except (redis.RedisError, OSError) as error:
            raise NotSaid(said_by(error), MEND) from error
        clustered = "+cluster" in self.config.redis_url
        # The operator may know a single server by another name.
        only = next(iter(operators.values()))
        return tuple(
            Node(address, client, operators.get(address, only), clustered)
            for address, client in site.items()
        )

    def _client(self, url: str) -> Client:
        topology = Topology.parse(url, timeout_ms=LOOK_TIMEOUT_MS, max_connections=MOST_CONNECTIONS)
        made = topology.client()
        self._clients.append(made)
        return made

    def ask(self, node: Node, *words: Any, as_site: bool = False) -> Any:
        """The reply, within a second. Raises NotSaid."""
        if node.address in self._silent:
            raise NotSaid(self._silent[node.address], MEND)
        client = node.site if as_site else node.operator
        try:
            return client.execute_command(*words)
        except redis.exceptions.AuthenticationError as error:
            raise NotSaid(said_by(error), MEND) from error
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            self._silent[node.address] = said_by(error)
            raise NotSaid(said_by(error), MEND) from error
        except redis.RedisError as error:
            raise NotSaid(f"{words[0]}: {said_by(error)}") from error

    def info(self, node: Node, *, fresh: bool = False) -> dict[str, Any]:
        """All sections; of one diagnosis once, unless it has to be ``fresh``. Raises NotSaid."""
        if fresh or node.address not in self._infos:
            self._infos[node.address] = dict(self.ask(node, "INFO", "all"))
        return self._infos[node.address]

    def config_of(self, node: Node, name: str) -> str | None:
        """None where the server does not know the setting. Raises NotSaid."""
        found = self.ask(node, "CONFIG GET", name).get(name)
        return None if found is None else str(found)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()


class Budget:
    """So much time for a part of a diagnosis."""

    def __init__(self, seconds: float) -> None:
        self._end_s = time.monotonic() + seconds

    @property
    def spent(self) -> bool:
        return time.monotonic() >= self._end_s

    @property
    def left_s(self) -> float:
        return max(0.0, self._end_s - time.monotonic())


def each_node(
    look: Look, subject: str, of_node: Callable[[Node], Iterable[Finding]]
) -> Iterator[Finding]:
    """What ``of_node`` finds at each node; where one does not say, that ``subject`` is unknown."""
    try:
        nodes = look.nodes
    except NotSaid as error:
        yield unknown(subject, "the cluster", error)
        return
    for node in nodes:
        try:
            yield from of_node(node)
        except NotSaid as error:
            yield unknown(subject, node.address, error)


def unknown(subject: str, where: str, why: NotSaid | str, to_do: str = "") -> Finding:
    return Finding(
        Level.UNKNOWN,
        "not-known",
        where,
        f"Not known, and so perhaps wrong: {subject}.",
        str(why),
        to_do or (why.to_do if isinstance(why, NotSaid) else ""),
    )


def said_by(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _by_address(client: Client) -> dict[str, redis.Redis]:
    if not isinstance(client, RedisCluster):
        return {address_of(client): client}
    return {
        f"{node.host}:{node.port}": client.get_redis_connection(node)
        for node in client.get_nodes()  # type: ignore[no-untyped-call]
    }
