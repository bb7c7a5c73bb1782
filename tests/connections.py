"""Many connections at once, for tests of servers."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def kept_open(port: int, number: int) -> Iterator[None]:
    """Each has asked once and been answered, as those that a proxy keeps."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        if allowed < number + 500:  # Each is an open file of this process too.
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(number + 500, most), most))
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (allowed, most))
        for _ in range(number):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(64).startswith(b"HTTP/1.1 200"), "nobody answers"
        yield
