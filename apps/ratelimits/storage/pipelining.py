"""The async path to Redis: the commands of one turn of the event loop leave in one write.

One connection per event loop carries all of them, and its replies come in the order of the
commands. So a site with many requests in flight pays once for the write, the wake-up and the
read of all of them.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from typing import Any, cast

import redis
import redis.asyncio
from redis._parsers.hiredis import NOT_ENOUGH_DATA, _AsyncHiredisParser

CONNECT_S = 0.5
"""So long, at least, connecting may take. The commands that wait for it meanwhile expire in their
own time."""

TURNS_TO_READ = 3
"""Of the event loop, until a reply that lies in the socket is read: the next one sees it, the one
behind it wakes the reader, and that may stand behind us in its turn."""

MOST_IN_FLIGHT = 10_000
"""Commands that may wait for their replies: beyond that the server does not keep up."""

Reply = asyncio.Future[Any]


class Pipeline:
    """The commands of one event loop, over the connections that ``pool`` would make."""

    def __init__(self, pool: redis.asyncio.ConnectionPool, timeout_s: float) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._line: _Line | None = None
        self._retired = False
        # Also those on which somebody still waits. Tasks alone would not keep them alive.
        self._lines: set[_Line] = set()

    def ask(self, command: bytes) -> Reply:
        """The reply, some time. Whoever waits may be cancelled: that takes nothing back, and
        harms nobody else.

        The reply raises what redis-py would: ConnectionError, TimeoutError, ResponseError. A
        command is never sent twice.
        """
        line = self._line
        if line is None or line.spent:
            line = self._another()
        return line.ask(command)

    def _another(self) -> _Line:
        options = {
            **self._pool.connection_kwargs,
            # None of its own: each command has one, and expires apart.
            "socket_timeout": None,
            "parser_class": _Parser,
            # Of its two protocols, the one without messages that answer nobody.
            "protocol": 2,
        }
        line = self._line = _Line(self._pool.connection_class(**options), self._timeout_s)
        line.spent = self._retired
        self._lines.add(line)
        line.writer.add_done_callback(lambda _: self._ended(line))
        return line

    def _ended(self, line: _Line) -> None:
        """What is left of it would keep its event loop in memory."""
        line.end(redis.ConnectionError("the connection was closed"))
        self._lines.discard(line)
        if self._line is line:
            self._line = None

    async def close(self) -> None:
        """Fails what still waits."""
        writers = [line.writer for line in self._lines]
        for writer in writers:
            writer.cancel()
        if writers:
            await asyncio.wait(writers)

    def retire(self) -> None:
        """Close each connection once nobody waits on it, also those that are made from now on.
        On this pipeline's own event loop."""
        self._retired = True
        for line in self._lines:
            line.retire()


class _Parser(_AsyncHiredisParser):  # type: ignore[misc, unused-ignore]
    """Once ``in_turns``, a response is the list of all replies that have come.

    One call of redis-py's for each of them takes as long as all else that is done for it here.
    """

    __slots__ = ("in_turns",)

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size)
        self.in_turns = False

    async def read_response(
        self, disable_decoding: bool = False, push_request: bool = False
    ) -> Any:
        first = await super().read_response(disable_decoding, push_request)
        if not self.in_turns:
            return first
        replies, reader = [first], cast(Any, self._reader)
        while (reply := reader.gets()) is not NOT_ENOUGH_DATA:
            replies.append(reply)
        return replies


class _Line:
    """One connection and who waits on it, until ``writer`` is done. ``spent``: it failed, or a
    reply is overdue; what is new goes over another line, and this one ends with the last who
    waits."""

    def __init__(self, connection: Any, timeout_s: float) -> None:
        self.spent = False
        self._connected = False
        self._connection = connection
        self._timeout_s = timeout_s
        self._unsent: list[tuple[bytes, Reply]] = []
        self._sent: deque[Reply] = deque()
        self._due: deque[tuple[float, Reply]] = deque()
        self._timer: asyncio.Handle | None = None
        self._idle: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        # Not in the context of the request that happened to be the first.
        self.writer = asyncio.create_task(self._write(), context=contextvars.Context())

    def ask(self, command: bytes) -> Reply:
        if len(self._due) >= MOST_IN_FLIGHT:
            raise redis.exceptions.MaxConnectionsError(
                f"{MOST_IN_FLIGHT:,} commands wait for their replies"
            )
        reply: Reply = self._loop.create_future()
        self._unsent.append((command, reply))
        due_s = self._loop.time() + self._timeout_s
        self._due.append((due_s, reply))
        if self._timer is None:
            self._timer = self._loop.call_at(due_s, self._expire)
        # The writer runs in the next turn of the loop, behind all that this turn still asks.
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        return reply

    async def _write(self) -> None:
        reader: asyncio.Task[None] | None = None
        transport: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(max(CONNECT_S, self._timeout_s)):
                await self._connection.connect()
            self._connected = True
            transport = self._connection._writer.transport
            self._connection._parser.in_turns = True
            reader = asyncio.create_task(self._read())
            while True:
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
            self.end(failure)
        finally:
            self.spent = True
            # Cancelling one that is done would keep its failure from being reported.
            if reader is not None and not reader.done():
                reader.cancel()
            # Closing would go on to write to a server that does not read, and would say goodbye
            # in TLS on a loop that may be at its end.
            if transport is not None:
                transport.abort()
            await self._connection.disconnect(nowait=True)

    async def _read(self) -> None:
        try:
            while True:
                for answer in await self._connection.read_response():
                    reply = self._sent.popleft()
                    failed = isinstance(answer, redis.RedisError)
                    # A replica's refusal says that this is the wrong server by now.
                    if failed and isinstance(answer, redis.exceptions.ReadOnlyError):
                        self.spent = True
                    if reply.done():
                        continue
                    if failed:
                        reply.set_exception(answer)
                    else:
                        reply.set_result(answer)
                # Not only when their time is over: that many of them would burden the collector.
                while self._due and self._due[0][1].done():
                    self._due.popleft()
        except (redis.RedisError, OSError) as failure:
            self.end(failure)
        except IndexError:
            self.end(redis.InvalidResponse("a reply that nobody asked for"))
        finally:
            self.writer.cancel()

    def _expire(self, turns: int = TURNS_TO_READ, now_s: float = 0.0) -> None:
        """Not before what has come by now is read: where this loop was busy for longer than the
        time limit, the replies are there, and their reader has not run."""
        now_s = now_s or self._loop.time()
        if turns:
            self._timer = self._loop.call_soon(self._expire, turns - 1, now_s)
            return
        while self._due and (self._due[0][0] <= now_s or self._due[0][1].done()):
            _, reply = self._due.popleft()
            if not reply.done():
                # One that is still connecting goes on: it may only take longer than a reply.
                self.spent = self.spent or self._connected
                reply.set_exception(redis.TimeoutError(f"no reply within {self._timeout_s} s"))
        if self._due:
            self._timer = self._loop.call_at(self._due[0][0], self._expire)
        else:
            self._timer = None
            if self.spent:
                self.writer.cancel()

    def retire(self) -> None:
        """What waits has its own time still; ``_expire`` ends a spent line with the last of it."""
        self.spent = True
        if self._timer is None:
            self.writer.cancel()

    def end(self, error: Exception) -> None:
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
