"""One server: the sync and the async way to it, and the breaker in front of both."""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import redis
import redis.asyncio

from . import packing
from .breaker import Breaker
from .connections import Connections, Sent
from .errors import Unavailable
from .failures import Failures, as_unavailable
from .pipelining import Pipeline

PROBE_MS = 1_000
"""What a probe writes is gone after so long."""


class Ask(NamedTuple):
    """A command, the script that it calls, and the hash tag of its keys."""

    command: bytes
    script: str
    tag: str


async def at_once(aask: Callable[..., Awaitable[Any]], asks: Sequence[Ask]) -> list[Any]:
    """What ``aask`` replies to each, or the Unavailable that it raises."""

    async def one(ask: Ask) -> Any:
        try:
            return await aask(*ask)
        except Unavailable as error:
            return error

    return await asyncio.gather(*map(one, asks))


class Node:
    """Asks one server, each time within the time limit and never twice.

    Every method that asks raises errors.Unavailable where the server does not serve, and
    redis.ResponseError where a command of ours is wrong.
    """

    apart = False
    """One command asks for any identities together."""

    def __init__(
        self,
        name: str,
        pool: redis.ConnectionPool,
        make_async_pool: Callable[[], redis.asyncio.ConnectionPool],
        *,
        noted: Failures,
        timeout_s: float,
        most: int,
        failures: int,
        open_s: float,
        probe_key: str,
    ) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self._noted = noted
        self.connections = Connections(pool, most, timeout_s)
        self._probe_key = probe_key
        self._probe = _Probe(self.connections, probe_key)
        self.breaker = Breaker(name, failures, open_s, self._probe)
        self._make_async_pool = make_async_pool
        self._pipelines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Pipeline] = (
            weakref.WeakKeyDictionary()
        )
        self._last_pipeline: tuple[Callable[[], Any], Pipeline | None] = (lambda: None), None

    @property
    def nodes(self) -> list[Node]:
        return [self]

    def ask(
        self,
        command: bytes,
        script: str = "",
        tag: str = "",
        within_s: float | None = None,
        before: bytes = b"",
    ) -> Any:
        """The reply. ``script``: which one the command calls, for a server that has lost it;
        ``before``: another command, whose reply tells nothing."""
        breaker = self.breaker
        if breaker.in_a_row:
            breaker.before_call()
        began_s = time.monotonic()
        try:
            try:
                reply = self.connections.ask(command, within_s, before)
            except redis.exceptions.NoScriptError:
                left_s = began_s + (within_s or self.timeout_s) - time.monotonic()
                full = packing.with_source(script, command)
                reply = self.connections.ask(full, left_s, before)
        except (redis.RedisError, OSError) as error:
            raise self.failure(error) from error
        if breaker.in_a_row:
            breaker.succeeded()
        return reply

    async def aask(
        self,
        command: bytes,
        script: str = "",
        tag: str = "",
        within_s: float | None = None,
        before: bytes = b"",
    ) -> Any:
        """``ask`` on the running event loop."""
        if self.breaker.in_a_row:
            self.breaker.before_call()
        began_s = time.monotonic()
        try:
            reply = await self._apiped(command, within_s, before)
        except (redis.RedisError, OSError) as error:
            reply = await self.after_all(error, command, script, began_s, within_s, before)
        if self.breaker.in_a_row:
            self.breaker.succeeded()
        return reply

    async def after_all(
        self,
        error: Exception,
        command: bytes,
        script: str,
        began_s: float,
        within_s: float | None = None,
        before: bytes = b"",
    ) -> Any:
        """The reply, where the server had only lost the script. Raises what the error is."""
        if not isinstance(error, redis.exceptions.NoScriptError):
            raise self.failure(error) from error
        left_s = began_s + (within_s or self.timeout_s) - time.monotonic()
        try:
            return await self._apiped(packing.with_source(script, command), left_s, before)
        except (redis.RedisError, OSError) as again:
            raise self.failure(again) from again

    async def _apiped(self, command: bytes, within_s: float | None, before: bytes) -> Any:
        pipeline = self.pipeline()
        if before:
            # What is asked in the same turn leaves on the same connection, in this order.
            pipeline.ask(before).add_done_callback(_seen)
        reply = pipeline.ask(command)
        if within_s is None:
            return await reply
        async with asyncio.timeout(within_s):
            return await reply

    def is_ready(self) -> bool:
        """Whether ``send`` would not wait. Where it would, a connection is begun."""
        return self.breaker.is_open or self.connections.prepare()

    def send(self, command: bytes, deadline_s: float) -> Sent:
        """The first half of ``ask``; ``receive`` must follow."""
        if self.breaker.in_a_row:
            self.breaker.before_call()
        try:
            return self.connections.send(command, deadline_s)
        except (redis.RedisError, OSError) as error:
            raise self.failure(error) from error

    def receive(self, sent: Sent, command: bytes, script: str = "") -> Any:
        """The reply to ``command``, which was sent so."""
        try:
            try:
                reply = self.connections.receive(sent)
            except redis.exceptions.NoScriptError:
                left_s = sent.deadline_s - time.monotonic()
                reply = self.connections.ask(packing.with_source(script, command), left_s)
        except (redis.RedisError, OSError) as error:
            raise self.failure(error) from error
        if self.breaker.in_a_row:
            self.breaker.succeeded()
        return reply

    def ask_each(self, asks: Sequence[Ask]) -> list[Any]:
        """The replies, each of them or the Unavailable in its place; all have the same time."""
        replies: list[Any] = []
        deadline_s = time.monotonic() + self.timeout_s
        for each in asks:
            left_s = deadline_s - time.monotonic()
            try:
                if left_s <= 0:
                    raise Unavailable("no time left: those before it had no reply")
                replies.append(self.ask(*each, left_s))
            except Unavailable as error:
                replies.append(error.with_traceback(None))  # It would keep this frame.
        return replies

    async def aask_each(self, asks: Sequence[Ask]) -> list[Any]:
        """``ask_each`` on the running event loop."""
        return await at_once(self.aask, asks)

    def failure(self, error: Exception) -> Exception:
        """What is to be raised for it. Counted where the server is at fault."""
        unavailable = as_unavailable(error)
        if unavailable is None:
            return error
        if self._noted.note(error, self.name).of_server:
            self.breaker.failed()
        return unavailable

    def pipeline(self) -> Pipeline:
        """Of the running event loop."""
        loop = asyncio.get_running_loop()
        last_loop, pipeline = self._last_pipeline
        if pipeline is not None and last_loop() is loop:
            return pipeline
        pipeline = self._pipelines.get(loop)
        if pipeline is None:
            pipeline = self._pipelines[loop] = Pipeline(self._make_async_pool(), self.timeout_s)
        # Nearly always the next one's too, and quicker to ask than the dictionary.
        self._last_pipeline = weakref.ref(loop), pipeline
        return pipeline

    def leave_alone(self) -> None:
        """It is known to be away: no request pays a timeout to find that out as well."""
        self.breaker.trip()

    def close(self) -> None:
        """Close the sync connections, and probe no more."""
        self.breaker.stop()
        self.connections.close()

    def retire(self) -> None:
        """``close``, and the connections of all event loops: it holds nothing any more. What is on
        its way has its reply first."""
        self.close()
        # Not by items(): a loop that begins meanwhile adds its own.
        for loop in [of() for of in self._pipelines.keyrefs()]:
            pipeline = self._pipelines.get(loop) if loop is not None else None
            if loop is not None and pipeline is not None:
                with contextlib.suppress(RuntimeError):  # The loop is at its end.
                    loop.call_soon_threadsafe(pipeline.retire)

    async def aclose(self) -> None:
        """Close the connection of the running event loop."""
        pipeline = self._pipelines.pop(asyncio.get_running_loop(), None)
        self._last_pipeline = (lambda: None), None
        if pipeline is not None:
            await pipeline.close()


def _seen(reply: asyncio.Future[Any]) -> None:
    """Else asyncio would report an error that nobody looked at."""
    if not reply.cancelled():
        reply.exception()


class _Probe:
    """Whether a server serves again, over a new connection, which is kept where it does."""

    def __init__(self, connections: Connections, key: str) -> None:
        self._connections = connections
        self.write_to(key)

    def write_to(self, key: str) -> None:
        # A write, since a server that is full or a replica goes on to answer reads.
        self._write = packing.command("SET", key, "1", "PX", PROBE_MS)

    def __call__(self) -> None:
        connection = self._connections.connected()
        try:
            connection.send_packed_command([self._write], check_health=False)
            connection.read_response()
        except redis.exceptions.MovedError:
            pass  # Of a cluster: the slot went to another node, but this one goes on to answer.
        except BaseException:
            connection.disconnect()
            raise
        self._connections.add(connection)
