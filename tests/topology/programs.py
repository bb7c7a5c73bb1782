"""Programs of this machine in place of images of others, and how each is asked if it answers."""

from __future__ import annotations

import contextlib
import shutil
import socket
from pathlib import Path
from urllib.request import urlopen

import kombu

from tests.servers import free_port

RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def valkey_options(port: int, *, of_cluster: bool) -> list[str]:
    """Behind those of the service: what is said last holds."""
    words = ["--port", str(port), "--bind", "127.0.0.1"]
    if of_cluster:
        words += ["--cluster-port", str(free_port()), "--cluster-announce-ip", "127.0.0.1"]
    return words


def with_valkey_cli(folder: Path) -> Path:
    """A folder in which Debian's client of Redis has the name of Valkey's."""
    folder.mkdir(exist_ok=True)
    link = folder / "valkey-cli"
    if not link.exists():
        link.symlink_to(str(shutil.which("redis-cli")))
    return folder


def rabbitmq_variables(port: int, epmd: int, config: Path, data: Path) -> dict[str, str]:
    """``epmd``: the port of a daemon of its own, by which Erlang's programs find each other."""
    copied = data / "rabbitmq.conf"
    shutil.copy2(config, copied)
    return {
        "ERL_EPMD_PORT": str(epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"iota{epmd}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(data / "mnesia"),
        "RABBITMQ_LOG_BASE": str(data / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_CONFIG_FILE": str(copied),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(data / "plugins"),
        "RABBITMQ_PID_FILE": str(data / "pid"),
    }


def valkey_answers(port: int) -> bool:
    """Users have passwords, so that a question for one is an answer."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as sock:
        sock.sendall(b"PING\r\n")
        return sock.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    return False


def http_answers(port: int, path: str) -> bool:
    with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}{path}", timeout=2):
        return True
    return False


def amqp_answers(url: str) -> bool:
    # Whatever stands in the way, from a closed port to a node that has no user yet.
    with contextlib.suppress(Exception), kombu.Connection(url, connect_timeout=2) as connection:
        connection.connect()
        return True
    return False
