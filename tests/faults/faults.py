"""The faults: how each begins and ends, and what may be expected meanwhile."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis

from tests.servers import RedisProcess

from .network import HOST, Network

FILLER_KEYS = 3_000
WAIT_S = 20.0


class Ground:
    """A server, the network to it, and an operator's connection."""

    def __init__(self, flavour: str = "valkey") -> None:
        options = ["{folder}/server.conf", "--busy-reply-threshold", "200"]
        self.server = RedisProcess(flavour, options)
        self.configure("")
        self.server.start()
        # Empty, and at once ready for a replica.
        self.other = RedisProcess(flavour, ["--repl-diskless-sync-delay", "0"]).start()
        self.network = Network(self.server.port)
        self.operator = self.connect()
        self._idle: list[socket.socket] = []
        self._busy: threading.Thread | None = None

    def configure(self, text: str) -> None:
        """For the server's next start."""
        (self.server.folder / "server.conf").write_text(text)

    def connect(self) -> redis.Redis:
        return redis.Redis(host=HOST, port=self.server.port, single_connection_client=True)

    def restart(self) -> None:
        self.server.kill()
        self.server.start()
        self.operator = self.connect()

    def others(self) -> list[str]:
        """The numbers of all connections but the operator's, replicas left out."""
        mine = str(self.operator.client_id())
        rows = self.operator.client_list(_type="normal")
        return [row["id"] for row in rows if row["id"] != mine]

    def kill_connections(self, numbers: list[str]) -> None:
        for number in numbers:
            self.operator.client_kill_filter(_id=number)

    def fill_connections(self) -> None:
        before = self.others()
        self._idle = [socket.create_connection((HOST, self.server.port)) for _ in range(16)]
        for idle in self._idle:
            idle.sendall(b"PING\r\n")
            idle.recv(16)
        self.operator.config_set("maxclients", len(self._idle) + 1)
        self.kill_connections(before)

    def free_connections(self) -> None:
        self.operator.config_set("maxclients", 10_000)
        for idle in self._idle:
            idle.close()

    def be_busy(self) -> None:
        def loop() -> None:
            with contextlib.suppress(redis.RedisError):  # Killed.
                self.connect().eval("while true do end", 0)

        self._busy = threading.Thread(target=loop)
        self._busy.start()

    def be_free(self) -> None:
        with self.connect() as another:
            another.script_kill()
        if self._busy:
            self._busy.join()

    def load_slowly(self) -> None:
        """Restarted with what it knew, which takes as long as somebody lets it."""
        pipeline = self.operator.pipeline(transaction=False)
        for number in range(FILLER_KEYS):
            pipeline.set(f"filler:{number}", "x" * 2_000, ex=120)
        pipeline.execute()
        self.operator.save()
        # 2 ms for each key, and an ear for its clients after each KiB.
        self.configure("key-load-delay 2000\nloading-process-events-interval-bytes 1024\n")
        self.restart()

    def finish_loading(self) -> None:
        self.operator.config_set("key-load-delay", 0)
        self.wait(lambda: not self.operator.info("persistence")["loading"])
        self.configure("")
        self.operator.delete(*(f"filler:{number}" for number in range(FILLER_KEYS)))
        (self.server.folder / "dump.rdb").unlink()

    def follow(self) -> None:
        self.operator.replicaof(HOST, self.other.port)
        self.wait(lambda: self.operator.info("replication")["master_link_status"] == "up")

    def wait(self, done: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not done():
            if time.monotonic() > deadline_s:
                raise AssertionError("the fault did not come about")
            time.sleep(0.005)

    def close(self) -> None:
        self.network.close()
        self.server.stop()
        self.other.stop()


@dataclass(frozen=True, slots=True)
class Fault:
    """``lasts_s`` 0: it is over as soon as it has begun."""

    name: str
    begin: Callable[[Ground], object]
    end: Callable[[Ground], object] = lambda ground: None
    lasts_s: float = 2.0
    disables: bool = True
    """No check is decided by Redis while it lasts."""
    keeps: bool = True
    """What was counted before still counts after."""
    on_network: bool = False

    def __str__(self) -> str:
        return self.name


def _configure(name: str, value: object) -> Callable[[Ground], object]:
    return lambda ground: ground.operator.config_set(name, value)


def _ask_for_password(ground: Ground) -> None:
    others = ground.others()
    ground.operator.config_set("requirepass", "secret")
    ground.kill_connections(others)


SERVER_FAULTS = (
    Fault("frozen", lambda g: g.server.pause(), lambda g: g.server.resume()),
    Fault("killed, restarted empty", lambda g: g.server.kill(), Ground.restart, keeps=False),
    Fault("restarted empty at once", Ground.restart, lasts_s=0, keeps=False),
    Fault("flushed", lambda g: g.operator.flushall(), lasts_s=0, keeps=False),
    Fault("scripts flushed", lambda g: g.operator.script_flush(), lasts_s=0),
    Fault("connections killed", lambda g: g.kill_connections(g.others()), lasts_s=0),
    Fault("full, noeviction", _configure("maxmemory", 1), _configure("maxmemory", 0)),
    Fault("loading", Ground.load_slowly, Ground.finish_loading, keeps=False),
    Fault(
        "read-only replica", Ground.follow, lambda g: g.operator.replicaof("NO", "ONE"), keeps=False
    ),
    Fault("password asked for", _ask_for_password, _configure("requirepass", "")),
    Fault("max clients", Ground.fill_connections, Ground.free_connections),
    Fault("busy script", Ground.be_busy, Ground.be_free),
    # The pause ends by itself: whoever waits for PING's reply sees when.
    Fault("clients paused", lambda g: g.operator.client_pause(2_000), lambda g: g.operator.ping()),
)


def _slowly(delay_s: float) -> Callable[[Ground], object]:
    return lambda ground: setattr(ground.network, "delay_s", delay_s)


NETWORK_FAULTS = (
    Fault(
        "network cut, late delivery",
        lambda g: g.network.cut(),
        lambda g: g.network.mend(),
        on_network=True,
    ),
    Fault(
        "host lost, another comes",
        lambda g: g.network.lose(),
        lambda g: g.network.mend(),
        on_network=True,
    ),
    Fault(
        "connections refused",
        lambda g: g.network.refuse(),
        lambda g: g.network.serve(),
        on_network=True,
    ),
    Fault("replies 200 ms late", _slowly(0.2), _slowly(0), on_network=True),
    Fault("replies 20 ms late", _slowly(0.02), _slowly(0), on_network=True, disables=False),
)
