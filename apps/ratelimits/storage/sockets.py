"""How long a connection waits, and what a wait that ended tells."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any

import redis


def limit_wait(connection: Any, seconds: float) -> None:
    """So long a send or a receive may take.

    Let the kernel end a wait that is too long: with a time limit of Python's, every send and
    receive is preceded by a poll, which doubles the system calls and the hand-overs of the GIL.
    TLS would go on reading for ever, and gevent's sockets never block: they keep Python's.
    """
    sock = connection._sock
    if type(sock).__module__ != "socket" or sys.platform == "win32":
        sock.settimeout(seconds)
        return
    whole, part = divmod(seconds, 1)
    limit = struct.pack("@ll", int(whole), max(1, int(part * 1_000_000)))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    sock.settimeout(None)


def read_again(connection: Any) -> tuple[Any] | None:
    """The reply, where it has come by now: this process may not have run when it came."""
    sock = connection._sock
    if sock is None:
        return None
    before_s = sock.gettimeout()
    try:
        sock.setblocking(False)
        return (connection._parser.read_response(),)
    except (redis.RedisError, OSError):
        return None
    finally:
        sock.settimeout(before_s)


def timed_out(error: BaseException) -> bool:
    """What the kernel calls a call that would block is, on a socket that blocks, its time limit."""
    if isinstance(error, (TimeoutError, redis.TimeoutError)):
        return True
    by_parser = isinstance(error, redis.ConnectionError)
    return isinstance(error.__context__ if by_parser else error, BlockingIOError)
