"""A proxy between a client and a server, for what a server alone does not show or do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

SEGMENTS_IN = struct.Struct("=I"), 152
"""tcpi_data_segs_in of Linux' ``struct tcp_info``: with TCP_NODELAY one for each small write."""


class Proxy:
    """Passes bytes on, on a loopback port. New connections go to ``upstream``, a port."""

    def __init__(self, upstream: int, connect_s: float = 0.0) -> None:
        """``connect_s``: so long nothing passes on a new connection."""
        self.upstream = upstream
        self._connect_s = connect_s
        self.delay_s = 0.0
        """So long each answer is kept back from now on."""
        self._passes: int | None = None
        self._clients: list[socket.socket] = []
        self._servers: list[socket.socket] = []
        self._frozen: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def accepted(self) -> int:
        return len(self._clients)

    def writes(self) -> int:
        """How many writes have come in, over the connections that are open."""
        form, offset = SEGMENTS_IN
        infos = [
            client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            for client in self._clients
            if client.fileno() >= 0
        ]
        return sum(form.unpack_from(info, offset)[0] for info in infos)

    def freeze(self) -> None:
        """The connections of now stay open and silent, as when their host was lost."""
        self._frozen.update(self._clients, self._servers)

    def freeze_after(self, answers: int) -> None:
        """``freeze``, once so many more answers have passed."""
        self._passes = answers

    def inject(self, data: bytes) -> None:
        """Say something that nobody asked for, on all connections of now."""
        for client in self._clients:
            client.sendall(data)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.upstream))
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._clients.append(client)
                self._servers.append(server)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        if self._connect_s and source in self._clients:
            time.sleep(self._connect_s)
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 20):
                if source in self._frozen:
                    continue
                if self.delay_s and source in self._servers:
                    time.sleep(self.delay_s)
                sink.sendall(data)
                if self._passes is not None and source in self._servers:
                    self._passes -= 1
                    if self._passes == 0:
                        self.freeze()
        for end in (source, sink):
            _close(end)

    def close(self) -> None:
        for end in (self._listener, *self._clients, *self._servers):
            _close(end)


def _close(end: socket.socket) -> None:
    # Closing alone does not wake a thread that waits in it.
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
