"""The sync path to Redis: kept connections, each used for one command at a time.

redis-py's pool and client spend more on a command than the trip to a near server takes. Its
``Connection`` does what is hard (TLS, passwords, Sentinel, the handshake) and is kept as it is.

The free list is one per process, not one per thread: under ASGI and gevent a thread's own state
is new at each request. What was opened last is used first, so that a busy site uses few.
"""

from __future__ import annotations

import math
import os
import socket
import struct
import sys
import threading
import time
import weakref
from typing import Any

import redis

IDLE_S = 1.0
"""After so long the server may have closed a connection: it is looked at before it is used."""


_MOVED = TimeoutError, redis.TimeoutError, redis.exceptions.ReadOnlyError
"""Nobody there, or a replica by now: whoever connects anew may be led to the new primary."""


class Connections:
    """A bounded last-in-first-out list of the connections that ``pool`` would make."""

    def __init__(self, pool: redis.ConnectionPool, most: int, timeout_s: float) -> None:
        self._pool = pool
        self._most = most
        self._timeout_s = timeout_s
        self._begin()
        _living.add(self)

    def _begin(self) -> None:
        """Also in a forked child: a connection of its parent's is not its own."""
        self._free: list[tuple[Any, float]] = []
        self._kept: list[tuple[Any, float]] = []
        self._open = 0
        self._waiting = 0
        self._failed_s = self._stale_s = 0.0
        self._changed = threading.Condition()

    def ask(self, command: bytes) -> Any:
        """The reply to one packed command. Raises redis.RedisError (an error reply too) or OSError.

        Never sent twice. Where it fails or is broken off, its connection is closed: what is
        still to come on it would answer somebody else.
        """
        now_s = time.monotonic()
        try:
            connection, used_s = self._free.pop()
        except IndexError:
            connection, used_s = self._another()
        try:
            if now_s - used_s > IDLE_S or used_s < self._failed_s:
                self._renew(connection, used_s)
            # Connection's own methods around these two take as long again as both of them.
            connection._sock.sendall(command)
            reply = connection._parser.read_response()
            if isinstance(reply, redis.RedisError):
                try:
                    raise reply
                finally:
                    # A traceback keeps this frame, which would keep the error: neither would go.
                    del reply
        except BaseException as error:
            self._failed(connection, error, now_s)
            if _timed_out(error):
                raise redis.TimeoutError("no reply in time") from error
            raise
        self._free.append((connection, now_s))
        if self._waiting:
            self._tell()
        return reply

    def _another(self) -> tuple[Any, float]:
        """A new connection, or one that comes free in time where there are as many as may be."""
        deadline_s = time.monotonic() + self._timeout_s
        with self._changed:
            self._waiting += 1
            try:
                found = self._free_or_new()
                while found is None:
                    left_s = deadline_s - time.monotonic()
                    if left_s <= 0:
                        raise redis.exceptions.MaxConnectionsError(
                            f"all {self._most} connections were in use for {self._timeout_s} s"
                        )
                    self._changed.wait(left_s)
                    found = self._kept.pop() if self._kept else self._free_or_new()
                return found
            finally:
                self._waiting -= 1
                if len(self._kept) > self._waiting:
                    self._free.append(self._kept.pop())
                elif self._kept:
                    self._changed.notify()

    def _free_or_new(self) -> tuple[Any, float] | None:
        try:
            return self._free.pop()
        except IndexError:
            pass
        if self._open >= self._most:
            return None
        # Connected by its first use, which closes it where that fails.
        made = self._pool.connection_class(**self._pool.connection_kwargs)
        self._open += 1
        return made, -math.inf

    def _renew(self, connection: Any, used_s: float) -> None:
        """Connect, or connect again where the server has closed the connection meanwhile.

        Nothing has been sent on it yet, so that this asks nobody twice. A byte that waits there
        unasked for belongs to no command of ours: such a connection is not used either. Nor one
        as old as one whose server has moved: that cannot be seen.
        """
        if connection.is_connected:
            stale = used_s < self._stale_s
            if not stale:
                try:
                    stale = connection.can_read(0)
                except redis.ConnectionError:
                    stale = True
            if not stale:
                return
            connection.disconnect()
        connection.connect()
        _wait_in_kernel(connection._sock, connection.socket_timeout)

    def _failed(self, connection: Any, error: BaseException, asked_s: float) -> None:
        """Keep or close a connection whose command, asked at that time, ended with an error."""
        moved = isinstance(error, _MOVED) or _timed_out(error)
        if isinstance(error, redis.ResponseError) and not moved and connection.is_connected:
            self._give_back(connection)
            return
        self._lose(connection)
        if isinstance(error, Exception):
            # The others may have gone with it, as when the server was restarted.
            self._failed_s = time.monotonic()
        if moved:
            self._stale_s = asked_s

    def _give_back(self, connection: Any) -> None:
        self._free.append((connection, time.monotonic()))
        if self._waiting:
            self._tell()

    def _tell(self) -> None:
        """Keep what came free for one who waits: who asks all the time would take it each time."""
        with self._changed:
            if self._free and len(self._kept) < self._waiting:
                self._kept.append(self._free.pop())
            self._changed.notify()

    def _lose(self, connection: Any) -> None:
        connection.disconnect()
        with self._changed:
            self._open -= 1
            self._changed.notify()

    def close(self) -> None:
        """Close those that are free; those in use are closed by nobody but their user."""
        while True:
            try:
                connection, _ = self._free.pop()
            except IndexError:
                return
            self._lose(connection)

    def __del__(self) -> None:
        # redis-py's connections hold themselves: they would stay open until the next collection.
        self.close()


def _wait_in_kernel(sock: Any, timeout_s: float | None) -> None:
    """Let the kernel end a wait that is too long: with a time limit of Python's, every send and
    receive is preceded by a poll, which doubles the system calls and the hand-overs of the GIL.

    TLS would go on reading for ever, and gevent's sockets never block: they keep Python's.
    """
    if timeout_s is None or type(sock).__module__ != "socket" or sys.platform == "win32":
        return
    seconds, part = divmod(timeout_s, 1)
    limit = struct.pack("@ll", int(seconds), max(1, int(part * 1_000_000)))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    sock.settimeout(None)


def _timed_out(error: BaseException) -> bool:
    """What the kernel calls a call that would block is, on a socket that blocks, its time limit."""
    by_parser = isinstance(error, redis.ConnectionError)
    return isinstance(error.__context__ if by_parser else error, BlockingIOError)


_living: weakref.WeakSet[Connections] = weakref.WeakSet()


def _after_fork() -> None:
    for connections in list(_living):
        connections._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
