"""Receivers of messages on this machine, for tests: a web server and a mail server that fail as
they are told to, and remember what they took."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from .servers import free_port


class Webhook:
    """``answers`` are the statuses of the next requests, then 200; ``hang_s`` is how long each
    waits before it is answered, and 0 as a status closes the connection without an answer."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.hang_s = 0.0
        self.taken: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                outer.taken.append(json.loads(body))
                outer.headers.append(dict(self.headers))
                status = outer.answers.pop(0) if outer.answers else 200
                time.sleep(outer.hang_s)
                if status == 0:
                    self.connection.close()
                    return
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    if status in (301, 302, 307):
                        self.send_header("Location", "/elsewhere")
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    super().handle()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook"

    @property
    def titles(self) -> list[str]:
        return [one["title"] for one in self.taken]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class MailServer:
    """``at_receiver`` and ``at_data`` are answers of the next mails at that place, such as
    ``451 later``."""

    def __init__(self) -> None:
        self.at_receiver: list[str] = []
        self.at_data: list[str] = []
        self.answering = True
        """False: it goes away with the mail, without an answer."""
        self.taken: list[EmailMessage] = []
        self.port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()
        self._open = True

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.at_receiver:
            return self.at_receiver.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        if self.at_data:
            return self.at_data.pop(0)
        self.taken.append(message_from_bytes(content, policy=policy.default))
        if not self.answering:
            assert server.transport is not None
            server.transport.abort()
        return "250 taken"

    def close(self) -> None:
        if self._open:
            self._open = False
            self._controller.stop(no_assert=True)


@contextlib.contextmanager
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def mail_server() -> Iterator[MailServer]:
    made = MailServer()
    try:
        yield made
    finally:
        made.close()
