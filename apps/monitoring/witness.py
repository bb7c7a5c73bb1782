"""Whether a message has left this process: what decides if it may be sent again.

A library that says "it failed" does not say whether the other side took the message before the
connection broke. Python's own audit events do: ``http.client`` and ``smtplib`` raise one before
each write, so a send without such an event can be repeated, and one with it only where an answer
came that says no.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MAIL_ENDS = b"\r\n.\r\n"


class Witness:
    handed_over = False


_now = threading.local()
_hooked = threading.Lock()


@contextmanager
def watching() -> Iterator[Witness]:
    """Of what this thread sends meanwhile."""
    # A hook stays for the life of the process: one, in a process that sends at all.
    if _hooked.acquire(blocking=False):
        sys.addaudithook(_hook)
    witness = _now.witness = Witness()
    try:
        yield witness
    finally:
        _now.witness = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ("http.client.send", "smtplib.send"):
        return
    witness = getattr(_now, "witness", None)
    if witness is None:
        return
    # Of a mail only its body, which ends so: a server that went away before has not taken it.
    if event == "http.client.send" or bytes(arguments[1]).endswith(MAIL_ENDS):
        witness.handed_over = True
