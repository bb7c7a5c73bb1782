"""A network between the sites and their server that can be cut, slowed and mended."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

HOST = "127.0.0.1"
BACKLOG = 128
RESET = struct.pack("ii", 1, 0)
"""Linger for no time: closing sends a reset."""


class Network:
    """Passes bytes on, on a loopback port, to ``upstream``, a port.

    Cut, it holds what is on its way, as TCP does, which sends again until it arrives; and who
    connects hears nothing at all.
    """

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self.delay_s = 0.0
        """Of each reply."""
        self._passing = threading.Event()
        self._passing.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._stuffing: list[socket.socket] = []
        self._lost: set[socket.socket] = set()
        self.port = 0
        self._closed = False
        self._listen()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def _listen(self) -> None:
        self._listener = socket.create_server((HOST, self.port), backlog=BACKLOG)
        self._listener.settimeout(0.02)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while listener.fileno() >= 0:
                if not self._passing.wait(0.02):
                    continue
                try:
                    client, _ = listener.accept()
                except TimeoutError:
                    continue
                client.settimeout(None)
                try:
                    server = socket.create_connection((HOST, self._upstream))
                except OSError:
                    _reset(client)
                    continue
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._pairs.append((client, server))
                for ends in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, replies: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if replies and self.delay_s:
                    time.sleep(self.delay_s)
                self._passing.wait()
                if source not in self._lost:
                    sink.sendall(data)
        for end in (source, sink):
            _close(end)

    def cut(self) -> None:
        """Nothing arrives, neither of the connections of now nor of new ones."""
        self._passing.clear()
        time.sleep(0.05)  # The listener's thread may be about to accept.
        # A full backlog: the kernel drops the first packet of a connection.
        self._listener.listen(0)
        for _ in range(3):
            stuffing = socket.socket()
            stuffing.setblocking(False)
            stuffing.connect_ex((HOST, self.port))
            self._stuffing.append(stuffing)

    def mend(self) -> None:
        """What was held arrives, late; new connections are served."""
        for stuffing in self._stuffing:
            stuffing.close()
        self._stuffing.clear()
        self._listener.listen(BACKLOG)
        self._passing.set()

    def lose(self) -> None:
        """``cut``, and the connections of now stay silent for ever, as when their host is gone."""
        self._lost.update(end for pair in self._pairs for end in pair)
        self.cut()

    def refuse(self) -> None:
        """Connections of now are reset, new ones refused."""
        _close(self._listener)
        for pair in self._pairs:
            for end in pair:
                _reset(end)
        self._pairs.clear()

    def serve(self) -> None:
        """After ``refuse``."""
        self._listen()

    def close(self) -> None:
        self._passing.set()
        for stuffing in self._stuffing:
            stuffing.close()
        self.refuse()


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        end.shutdown(socket.SHUT_RD)
    end.close()


def _close(end: socket.socket) -> None:
    # Closing alone does not wake a thread that waits in it.
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
