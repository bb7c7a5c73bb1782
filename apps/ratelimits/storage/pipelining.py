"""The async path to Redis: the commands of one turn of the event loop leave in one write.

One connection per event loop carries all of them, and its replies come in the order of the
commands. So a site with many requests in flight pays once for the write, the wake-up and the
read of all of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import redis
import redis.asyncio

MOST_IN_FLIGHT = 10_000
"""Commands that may wait for their replies: beyond that the server does not keep up."""

Reply = asyncio.Future[Any]


class Pipeline:
    """The commands of one event loop, over the connections that ``pool`` would make."""

    def __init__(self, pool: redis.asyncio.ConnectionPool, timeout_s: float) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._line: _Line | None = None

    def ask(self, command: bytes) -> Reply:
        """The reply, some time. Whoever waits may be cancelled: that takes nothing back, and
        harms nobody else.

        The reply raises what redis-py would: ConnectionError, TimeoutError, ResponseError. A
        command is never sent twice.
        """
        line = self._line
        if line is None or line.spent:
            # No timeout of its own: each command has one, and expires apart.
            options = {**self._pool.connection_kwargs, "socket_timeout": None}
            line = self._line = _Line(self._pool.connection_class(**options), self._timeout_s)
        return line.ask(command)

    async def close(self) -> None:
        """Fails what still waits."""
        if self._line is not None:
            await self._line.close()
            self._line = None


class _Line:
    """One connection and who waits on it. ``spent``: it failed, or a reply is overdue; what is
    new goes over another line, and this one ends with the last who waits."""

    def __init__(self, connection: Any, timeout_s: float) -> None:
        self.spent = False
        self._connection = connection
        self._timeout_s = timeout_s
        self._unsent: list[tuple[bytes, Reply]] = []
        self._sent: deque[Reply] = deque()
        self._due: deque[tuple[float, Reply]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None
        self._writer: asyncio.Task[None] | None = asyncio.create_task(self._write())
        self._reader: asyncio.Task[None] | None = None

    def ask(self, command: bytes) -> Reply:
        if len(self._unsent) + len(self._sent) >= MOST_IN_FLIGHT:
            raise redis.exceptions.MaxConnectionsError(
                f"{MOST_IN_FLIGHT:,} commands wait for their replies"
            )
        loop = asyncio.get_running_loop()
        reply: Reply = loop.create_future()
        self._unsent.append((command, reply))
        due_s = loop.time() + self._timeout_s
        self._due.append((due_s, reply))
        if self._timer is None:
            self._timer = loop.call_at(due_s, self._expire)
        self._wake()
        return reply

    def _wake(self) -> None:
        """The writer runs in the next turn of the loop, behind all that this turn still asks."""
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _write(self) -> None:
        error: Exception = redis.ConnectionError("the connection was closed")
        try:
            await self._connection.connect()
            self._reader = asyncio.create_task(self._read())
            while not (self.spent and not self._waiting()):
                turn, self._unsent = self._unsent, []
                # Who was cancelled before the command left is not charged.
                leaving = [(command, reply) for command, reply in turn if not reply.done()]
                if leaving:
                    self._sent.extend([reply for _, reply in leaving])
                    commands = b"".join([command for command, _ in leaving])
                    await self._connection.send_packed_command(commands, check_health=False)
                if not self._unsent:
                    self._idle = asyncio.get_running_loop().create_future()
                    await self._idle
        except (redis.RedisError, OSError) as failure:
            error = failure
        finally:
            self._end(error)
            if self._reader is not None:
                self._reader.cancel()
            self._writer = self._reader = None
            await self._connection.disconnect(nowait=True)

    async def _read(self) -> None:
        try:
            while True:
                try:
                    answer = await self._connection.read_response()
                except redis.ResponseError as refusal:
                    reply = self._sent.popleft()
                    if not reply.done():
                        reply.set_exception(refusal)
                    continue
                reply = self._sent.popleft()
                if not reply.done():
                    reply.set_result(answer)
        except (redis.RedisError, OSError) as error:
            self._end(error)

    def _waiting(self) -> bool:
        return any(not reply.done() for _, reply in self._due)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        while self._due and (self._due[0][0] <= now_s or self._due[0][1].done()):
            _, reply = self._due.popleft()
            if not reply.done():
                self.spent = True
                reply.set_exception(redis.TimeoutError(f"no reply within {self._timeout_s} s"))
        if self._due:
            self._timer = loop.call_at(self._due[0][0], self._expire)
        else:
            self._timer = None
            if self.spent:
                self._wake()

    def _end(self, error: Exception) -> None:
        """Nobody waits on this line any more."""
        self.spent = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _, reply in self._due:
            if not reply.done():
                reply.set_exception(error)
        self._due.clear()
        self._sent.clear()
        self._unsent.clear()
        self._wake()

    async def close(self) -> None:
        writer = self._writer
        if writer is not None:
            writer.cancel()
            await asyncio.wait([writer])
