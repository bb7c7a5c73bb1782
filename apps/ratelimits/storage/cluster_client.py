"""redis-py's cluster client, made so that it suits a site that must not go down with Redis.

What ``RedisCluster`` of redis-py 8.1 does on its own, as its source says:

- It asks the cluster for its slots as soon as it is made, and raises where nobody answers. This
  one does so when it is first used, and again from the first nodes once it has lost all others.
- It sends a command again, ten times, where no reply came; with a ``Retry`` of none, not once. But
  a pipeline sends each of its commands again whatever it is told: this one's does not.
- A command that a node refused (MOVED, ASK, TRYAGAIN) was not carried out. It is sent on, as often
  as 16 times.
- After CLUSTERDOWN it sleeps for 0.25 s, asks for the slots and raises.
- Of its errors two that say "not now" are no RedisError. This one's are.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, ClusterPipeline, PipelineStrategy, RedisCluster
from redis.exceptions import (
    AskError,
    MovedError,
    RedisClusterException,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.retry import Retry

_REFUSED = MovedError, AskError, TryAgainError
_NO_REPLY = redis.ConnectionError, redis.TimeoutError


class ClusterClient(RedisCluster):
    """``options`` are RedisCluster's; commands raise redis.RedisError or OSError."""

    def __init__(self, first_nodes: Sequence[tuple[str, int]], **options: Any) -> None:
        # A part of the cluster that is lost must not take the others along.
        fixed = {"retry": Retry(NoBackoff(), 0), "require_full_coverage": False}
        self._options = {**options, **fixed}
        self._first_nodes = tuple(first_nodes)
        self._making = threading.RLock()
        self._is_being_made = False

    def __getattr__(self, name: str) -> Any:
        """Called for what RedisCluster's ``__init__`` has not set yet."""
        if name.startswith("__") or "_making" not in self.__dict__:
            raise AttributeError(name)
        with self._making:
            if name not in self.__dict__ and not self._is_being_made:
                self._is_being_made = True
                try:
                    with _redis_errors():
                        nodes = [ClusterNode(host, port) for host, port in self._first_nodes]
                        super().__init__(startup_nodes=nodes, **self._options)
                finally:
                    self._is_being_made = False
        return object.__getattribute__(self, name)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with _redis_errors(self):
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> ClusterPipeline:
        return _Pipeline(
            self,
            nodes_manager=self.nodes_manager,
            commands_parser=self.commands_parser,
            startup_nodes=self.nodes_manager.startup_nodes,
            result_callbacks=self.result_callbacks,
            cluster_response_callbacks=self.cluster_response_callbacks,
            reinitialize_steps=self.reinitialize_steps,
            retry=self.retry,
            lock=self._lock,
            transaction=transaction,
        )

    def get_node(self, host: Any = None, port: Any = None, node_name: Any = None) -> Any:
        """Also one without slots, which the cluster does not tell of: the first slot that moves
        to it is asked for there while it moves."""
        found = super().get_node(host, port, node_name)  # type: ignore[no-untyped-call]
        if found is None and node_name:
            host, _, number = node_name.rpartition(":")
            found = ClusterNode(host, int(number))
        return found

    def close(self) -> None:
        if "nodes_manager" in self.__dict__:
            super().close()

    def begin_anew(self) -> None:
        """All nodes that it knows of are gone: those of the URL may have other addresses by now."""
        with self._making:
            self.close()
            self.__dict__.pop("nodes_manager", None)


class _Pipeline(ClusterPipeline):
    def __init__(self, client: ClusterClient, *, transaction: Any, **parts: Any) -> None:
        super().__init__(transaction=transaction, **parts)
        self._client = client
        if not transaction:
            self._execution_strategy = _Once(self, client)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        with _redis_errors(self._client):
            return super().execute(raise_on_error)


class _Once(PipelineStrategy):
    """Sends on what was refused, and nothing that got no reply."""

    def __init__(self, pipeline: _Pipeline, client: ClusterClient) -> None:
        super().__init__(pipeline)
        self._client = client

    def _send_cluster_commands(
        self, stack: Any, raise_on_error: bool = True, allow_redirections: bool = True
    ) -> list[Any]:
        super()._send_cluster_commands(  # type: ignore[no-untyped-call]
            stack, raise_on_error=False, allow_redirections=False
        )
        if any(isinstance(command.result, _NO_REPLY) for command in stack):
            self._nodes_manager.initialize()
        for command in stack:
            if isinstance(command.result, _REFUSED):
                try:
                    command.result = self._client.execute_command(*command.args, **command.options)
                except redis.RedisError as error:
                    command.result = error
        if raise_on_error:
            for command in stack:
                if isinstance(command.result, Exception):
                    raise command.result
        return [command.result for command in stack]


@contextlib.contextmanager
def _redis_errors(client: ClusterClient | None = None) -> Iterator[None]:
    try:
        yield
    except SlotNotCoveredError as error:
        raise redis.ConnectionError(str(error)) from error
    except RedisClusterException as error:
        # Of these only "no node could be reached" has a cause; the others are mistakes of ours.
        if error.__cause__ is None:
            raise
        if client is not None:
            client.begin_anew()
        raise redis.ConnectionError(str(error)) from error
