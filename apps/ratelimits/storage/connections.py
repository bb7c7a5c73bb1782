"""The sync path to Redis: kept connections, each used for one command at a time.

redis-py's pool and client spend more on a command than the trip to a near server takes. Its
``Connection`` does what is hard (TLS, passwords, Sentinel, the handshake) and is kept as it is.

The free list is one per process, not one per thread: under ASGI and gevent a thread's own state
is new at each request. What was opened last is used first, so that a busy site uses few.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from typing import Any, NamedTuple

import redis

from .forks import BeginsAnew
from .sockets import limit_wait, read_again, timed_out

IDLE_S = 1.0
"""After so long the server may have closed a connection: it is looked at before it is used."""

CONNECT_S = 0.5
"""So long, at least, each step of connecting may take: no request waits for it beyond its own
time limit."""

NEARLY_ALL = 0.95
LEAST_WAIT_S = 0.001
"""A connection that came late is asked for what is left of the time, where that is much less."""


_MOVED = TimeoutError, redis.TimeoutError, redis.exceptions.ReadOnlyError
"""Nobody there, or a replica by now: whoever connects anew may be led to the new primary."""


class Sent(NamedTuple):
    """A command on its way. ``short``: what its connection waits is less than usual; ``second``:
    its reply is the second one."""

    connection: Any
    asked_s: float
    deadline_s: float
    short: bool
    second: bool


class Connections(BeginsAnew):
    """A bounded last-in-first-out list of the connections that ``pool`` would make."""

    def __init__(self, pool: redis.ConnectionPool, most: int, timeout_s: float) -> None:
        self._pool = pool
        self._most = most
        self._timeout_s = timeout_s
        super().__init__()

    def _begin(self) -> None:
        """Also in a forked child: a connection of its parent's is not its own."""
        self._free: list[tuple[Any, float]] = []
        self._kept: list[tuple[Any, float]] = []
        # In use or not, weakly: one that was lost on its way takes no place for ever, as where
        # its request was interrupted between two lines.
        self._connected: weakref.WeakSet[Any] = weakref.WeakSet()
        self._opening: set[threading.Thread] = set()
        self._waiting: set[object] = set()
        self.waits = 0
        """How many asks found none free, and waited for one or for another to be opened."""
        self._failed_s = self._stale_s = 0.0
        self._refused: Exception | None = None
        self._refused_s = 0.0
        # Entered by itself: an interruption in Condition's own __enter__ would leave it locked.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    @property
    def _open(self) -> int:
        return len(self._connected) + len(self._opening)

    @property
    def in_use(self) -> int:
        """Those with a command on its way, or reserved for who waits: nearly so, without a lock."""
        return max(0, len(self._connected) - len(self._free))

    def ask(self, command: bytes, within_s: float | None = None, before: bytes = b"") -> Any:
        """The reply to one packed command. Raises redis.RedisError (an error reply too) or OSError,
        within the time limit, or ``within_s`` where that is less. ``before``, only with that: a
        command that leaves with it on the same connection, whose reply tells nothing.

        Never sent twice. Where it fails or is broken off, its connection is closed: what is
        still to come on it would answer somebody else.
        """
        now_s = time.monotonic()
        try:
            connection, used_s = self._free.pop()
        except IndexError:
            return self._ask_late(command, before, None, now_s, within_s)
        if now_s - used_s > IDLE_S or used_s < self._failed_s or within_s is not None:
            return self._ask_late(command, before, (connection, used_s), now_s, within_s)
        try:
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
            reply = self._after_all(connection, error, now_s)
        self._free.append((connection, now_s))
        if self._waiting:
            self._tell()
        return reply

    def _ask_late(
        self,
        command: bytes,
        before: bytes,
        found: tuple[Any, float] | None,
        now_s: float,
        within_s: float | None,
    ) -> Any:
        """``ask`` on a connection that is to be looked at or waited for first."""
        deadline_s = now_s + (self._timeout_s if within_s is None else within_s)
        return self.receive(self.send(command, deadline_s, before=before, found=found))

    def send(
        self,
        command: bytes,
        deadline_s: float,
        *,
        before: bytes = b"",
        found: tuple[Any, float] | None = None,
    ) -> Sent:
        """The first half of ``ask``; the other is due by ``deadline_s``, and must follow."""
        asked_s = time.monotonic()
        if found is None and self._free:
            with contextlib.suppress(IndexError):
                found = self._free.pop()
        if found is not None and asked_s - found[1] <= IDLE_S and found[1] >= self._failed_s:
            connection, left_s = found[0], deadline_s - asked_s
        else:
            connection, _ = self._looked_at(found, deadline_s)
            left_s = deadline_s - time.monotonic()
        short = left_s < self._timeout_s * NEARLY_ALL
        try:
            if short:
                limit_wait(connection, max(left_s, LEAST_WAIT_S))
            connection._sock.sendall(before + command)
        except BaseException as error:
            self._failed(connection, error, asked_s)
            raise
        return Sent(connection, asked_s, deadline_s, short, bool(before))

    def receive(self, sent: Sent) -> Any:
        """The reply to what was sent."""
        connection, short, first = sent.connection, sent.short, sent.second
        try:
            left_s = sent.deadline_s - time.monotonic()
            if left_s < self._timeout_s * NEARLY_ALL:
                limit_wait(connection, max(left_s, LEAST_WAIT_S))
                short = True
            if sent.second:
                connection._parser.read_response()
                first = False
            reply = connection._parser.read_response()
            if isinstance(reply, redis.RedisError):
                try:
                    raise reply
                finally:
                    del reply
        except BaseException as error:
            # What has come by now may be the reply that tells nothing, with ours behind it.
            reply = self._after_all(connection, error, sent.asked_s, short, again=not first)
        if short:
            limit_wait(connection, self._timeout_s)
        self._give_back(connection)
        return reply

    def _after_all(
        self,
        connection: Any,
        error: BaseException,
        asked_s: float,
        short: bool = False,
        again: bool = True,
    ) -> Any:
        """The reply that came too late to be waited for, but is there. Raises ``error`` where
        none is, and the reply where that is an error; the connection is seen to then."""
        late = read_again(connection) if again and timed_out(error) else None
        if late and not isinstance(late[0], redis.RedisError):
            return late[0]
        failure = late[0] if late else error
        try:
            if short and connection.is_connected:
                limit_wait(connection, self._timeout_s)
            self._failed(connection, failure, asked_s)
            if failure is error and timed_out(error):
                raise redis.TimeoutError("no reply in time") from error
            raise failure
        finally:
            del late, failure, error

    def prepare(self) -> bool:
        """Whether one is free. Where none is, another is begun, for who is about to ask."""
        if self._free:
            return True
        with self._lock, contextlib.suppress(redis.ConnectionError):  # ``send`` will tell.
            on_their_way = len(self._opening) + len(self._kept)
            if on_their_way <= len(self._waiting) and self._open < self._most:
                self._open_another()
        return False

    def abandon(self, sent: Sent) -> None:
        """Nobody will ask for this reply."""
        self._lose(sent.connection)

    def _looked_at(self, found: tuple[Any, float] | None, deadline_s: float) -> tuple[Any, float]:
        """A connection that looks well: ``found``, another, or one that is new or comes free."""
        began_s = time.monotonic()
        if found is not None:
            if self._is_well(*found):
                return found
            self._lose(found[0])
        me = object()
        with self._lock:
            try:
                self._waiting.add(me)
                found = self._free_one()
                self.waits += found is None
                while found is None:
                    if self._refused is not None and self._refused_s >= began_s:
                        raise _anew(self._refused)
                    on_their_way = len(self._opening) + len(self._kept) + len(self._free)
                    if on_their_way < len(self._waiting) and self._open < self._most:
                        self._open_another()
                    left_s = deadline_s - time.monotonic()
                    if left_s <= 0:
                        raise self._too_late()
                    self._changed.wait(left_s)
                    found = self._kept.pop() if self._kept else self._free_one()
                    if found is not None and not self._is_well(*found):
                        self._drop(found)
                        found = None
                return found
            finally:
                self._waiting.discard(me)
                if len(self._kept) > len(self._waiting):
                    self._free.append(self._kept.pop())
                elif self._kept:
                    self._changed.notify()

    def _free_one(self) -> tuple[Any, float] | None:
        while True:
            try:
                found = self._free.pop()
            except IndexError:
                return None
            if self._is_well(*found):
                return found
            self._drop(found)

    def _drop(self, found: tuple[Any, float]) -> None:
        """With the lock held."""
        self._connected.discard(found[0])
        found[0].disconnect()

    def _too_late(self) -> redis.RedisError:
        if self._open >= self._most and not self._opening:
            return redis.exceptions.MaxConnectionsError(
                f"all {self._most} connections were in use for {self._timeout_s} s"
            )
        return redis.TimeoutError("no connection in time")

    def _open_another(self) -> None:
        """Connects in a thread of its own: a request waits for it as long as for a reply and no
        longer, and whoever comes later finds it. Called with the lock held."""
        work = threading.Thread(target=self._connect, name="ratelimits-connect", daemon=True)
        try:
            self._opening.add(work)
            work.start()
        except BaseException as error:
            self._opening.discard(work)
            if isinstance(error, RuntimeError):  # The interpreter is at its end, or out of threads.
                raise redis.ConnectionError(str(error)) from error
            raise

    def _connect(self) -> None:
        connection = refused = None
        try:
            connection = self.connected()
        except BaseException as error:
            refused = _anew(error)
        with self._lock:
            self._opening.discard(threading.current_thread())
            if connection is not None:
                self.add(connection)
                return
            self._refused, self._refused_s = refused, time.monotonic()
            self._failed_s = self._refused_s
            self._changed.notify_all()

    def connected(self) -> Any:
        """A new connection, the handshake done. Raises redis.RedisError or OSError."""
        options = {**self._pool.connection_kwargs}
        step_s = max(CONNECT_S, self._timeout_s)
        options["socket_connect_timeout"] = options["socket_timeout"] = step_s
        connection = self._pool.connection_class(**options)
        try:
            connection.connect()
            limit_wait(connection, self._timeout_s)
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def add(self, connection: Any) -> None:
        """One that is connected, where there is still room for it."""
        with self._lock:
            if self._open < self._most:
                self._connected.add(connection)
                self._free.append((connection, time.monotonic()))
                self._keep_one()
                return
        connection.disconnect()

    def _is_well(self, connection: Any, used_s: float) -> bool:
        """Whether it may be used: not where the server has closed it meanwhile, nor where a byte
        waits unasked for, which belongs to no command of ours; nor one as old as one whose server
        has moved: that cannot be seen."""
        if used_s < self._stale_s:
            return False
        try:
            return not connection.can_read(0)
        except redis.ConnectionError:
            return False

    def _failed(self, connection: Any, error: BaseException, asked_s: float) -> None:
        """Keep or close a connection whose command, asked at that time, ended with an error."""
        moved = isinstance(error, _MOVED) or timed_out(error)
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
        with self._lock:
            self._keep_one()

    def _keep_one(self) -> None:
        """What came free is for one who waits: who asks all the time would take it each time."""
        if len(self._kept) < len(self._waiting):
            with contextlib.suppress(IndexError):  # Who asks takes it without the lock.
                self._kept.append(self._free.pop())
        self._changed.notify()

    def _lose(self, connection: Any) -> None:
        with self._lock:
            self._drop((connection, 0.0))
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


def _anew(error: BaseException) -> Exception:
    """The same for another thread, without the first one's traceback: it would keep alive all
    that its frames hold."""
    if isinstance(error, (redis.RedisError, OSError)):
        return type(error)(*error.args)
    return redis.ConnectionError(repr(error))
