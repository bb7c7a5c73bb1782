"""Load over HTTP from a process of its own: wrk where it is installed, else a small client here.

``python -m apps.benchmarks.load URL SECONDS CONNECTIONS`` is that client: it keeps so many
connections busy, each with one request at a time, and prints what came of it as JSON.
"""

from __future__ import annotations

import json
import re
import selectors
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

CONNECTIONS = 16
TIMEOUT_S = 30.0
ROOT = Path(__file__).resolve().parents[2]


class LoadFailed(Exception):
    """The load could not be made, or was not answered with 200."""


def generator() -> str:
    return "wrk" if shutil.which("wrk") else "apps.benchmarks.load (wrk is not installed)"


def requests_per_s(url: str, seconds: int) -> float:
    """Answers per second over CONNECTIONS connections. Raises LoadFailed."""
    wrk = shutil.which("wrk")
    if wrk:
        return _wrk(wrk, url, seconds)
    command = [sys.executable, "-m", "apps.benchmarks.load", url, str(seconds), str(CONNECTIONS)]
    found = json.loads(_output(command, seconds))
    if found["failed"]:
        raise LoadFailed(f"{url}: {found['failed']} answers were not 200")
    return float(found["requests"] / found["took_s"])


def _wrk(wrk: str, url: str, seconds: int) -> float:
    command = [wrk, "--threads", "1", "--connections", str(CONNECTIONS)]
    output = _output([*command, "--duration", f"{seconds}s", url], seconds)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: .*", output)
    if wrong:
        raise LoadFailed(f"{url}: {wrong[0]}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if not found:
        raise LoadFailed(f"{url}: wrk printed no Requests/sec: {output!r}")
    return float(found[1])


def _output(command: list[str], seconds: int) -> str:
    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + TIMEOUT_S
    )
    if ran.returncode:
        raise LoadFailed(f"{command[0]}: {ran.stderr.strip() or ran.stdout.strip()}")
    return ran.stdout


class Connection:
    """One of the client's, with a request under way. Raises OSError where it cannot be opened."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), TIMEOUT_S)
        self._request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
        self._answer = b""

    def ask(self) -> None:
        self._answer = b""
        self.socket.sendall(self._request)

    def read(self) -> bool | None:
        """Whether the answer is 200; None while it is not complete. Raises LoadFailed."""
        data = self.socket.recv(65_536)
        if not data:
            raise LoadFailed("the server closed a connection")
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if not found or not length or len(body) < int(length[1]):
            return None
        return head.startswith(b"HTTP/1.1 200")


def keep_busy(url: str, seconds: float, connections: int) -> dict[str, float]:
    """Requests, failed ones, and the seconds they took. Raises LoadFailed, OSError."""
    requests = failed = 0
    with selectors.DefaultSelector() as selector:
        opened = [Connection(url) for _ in range(connections)]
        try:
            started = time.monotonic()
            for one in opened:
                selector.register(one.socket, selectors.EVENT_READ, one)
                one.ask()
            while time.monotonic() - started < seconds:
                for key, _ in selector.select(TIMEOUT_S):
                    right = key.data.read()
                    if right is None:
                        continue
                    requests += 1
                    failed += not right
                    key.data.ask()
            took_s = time.monotonic() - started
        finally:
            for one in opened:
                one.socket.close()
    return {"requests": requests, "failed": failed, "took_s": took_s}


if __name__ == "__main__":
    print(json.dumps(keep_busy(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))))
