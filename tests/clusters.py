"""Real clusters for tests: processes of our own on free loopback ports, formed by this module."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
import trustme

from .servers import START_ATTEMPTS, RedisProcess, free_port

SLOTS = 16_384
HEALTHY_WITHIN_S = 30.0


class ClusterProcesses:
    """``primaries`` nodes that share the slots, each with ``replicas`` of its own.

    A node that is silent for ``node_timeout_ms`` is failing; half a second to a second later a
    replica of it is elected. ``options`` and ``url`` are those of each node, as RedisProcess
    takes them.
    """

    def __init__(
        self,
        flavour: str = "valkey",
        *,
        primaries: int = 3,
        replicas: int = 1,
        node_timeout_ms: int = 600,
        options: Sequence[str] = (),
        url: str = "redis://127.0.0.1:{port}/0",
    ) -> None:
        self.flavour = flavour
        self.nodes: list[RedisProcess] = []
        self._numbers = primaries, replicas
        self._url = url
        self._options = [
            *options,
            *("--cluster-enabled", "yes", "--cluster-config-file", "{folder}/nodes.conf"),
            *("--cluster-node-timeout", str(node_timeout_ms)),
            *("--cluster-announce-ip", "127.0.0.1"),
            # One part that is lost stops no other, and no replica is too old to take over.
            *("--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0"),
            *("--cluster-allow-replica-migration", "no"),
            *("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"),
        ]
        self._killed: set[int] = set()

    @property
    def url(self) -> str:
        """For REDIS_URL; it names every node."""
        parts = urlsplit(self.nodes[0].url)
        userinfo, at, _ = parts.netloc.rpartition("@")
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        query = f"?{parts.query}" if parts.query else ""
        return f"{parts.scheme}+cluster://{userinfo}{at}{hosts}{query}"

    def start(self) -> ClusterProcesses:
        primaries, replicas = self._numbers
        try:
            self.nodes = [self._node() for _ in range(primaries * (1 + replicas))]
            self._form(primaries)
            self.wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def _node(self) -> RedisProcess:
        for _ in range(START_ATTEMPTS):
            # The ports of the cluster's own talk would be 10,000 above the others.
            options = [*self._options, "--cluster-port", str(free_port())]
            node = RedisProcess(self.flavour, options, self._url)
            try:
                return node.start()
            except RuntimeError:
                node.stop()  # Somebody else has that port by now.
        raise RuntimeError(f"no node started in {START_ATTEMPTS} attempts")

    def _form(self, primaries: int) -> None:
        bounds = [SLOTS * n // primaries for n in range(primaries + 1)]
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            _ask(node, "CLUSTER SET-CONFIG-EPOCH", number + 1)
            if number < primaries:
                _ask(node, "CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            if node is not first:
                _ask(node, "CLUSTER MEET", "127.0.0.1", first.port, _bus_port(first))
        _until(lambda: all(len(_view(node)) == len(self.nodes) for node in self.nodes))
        for number, node in enumerate(self.nodes[primaries:]):
            _ask(node, "CLUSTER REPLICATE", node_id(self.nodes[number % primaries]))

    def join(self) -> RedisProcess:
        """One more node, a primary without slots."""
        node = self._node()
        self.nodes.append(node)
        first = next(each for each in self.living() if each is not node)
        _ask(node, "CLUSTER MEET", "127.0.0.1", first.port, _bus_port(first))
        self.wait_until_healthy()
        return node

    def living(self) -> list[RedisProcess]:
        return [node for node in self.nodes if node.port not in self._killed]

    def primaries(self) -> list[RedisProcess]:
        """Those that have slots, as the living say it; one that is dead until it is replaced."""
        view = _view(self.living()[0])
        return [node for node in self.nodes if view.get(node.port, {}).get("slots")]

    def replica_of(self, primary: RedisProcess) -> RedisProcess:
        """A replica that lives."""
        view = _view(self.living()[0])
        known = view[primary.port]["node_id"]
        return next(n for n in self.living() if view[n.port]["master_id"] == known)

    def slots_of(self, node: RedisProcess) -> list[tuple[int, int]]:
        """The first and last of each range."""
        return _ranges(_view(self.living()[0])[node.port])

    def owner_of(self, slot: int) -> RedisProcess:
        for node in self.primaries():
            if any(first <= slot <= last for first, last in self.slots_of(node)):
                return node
        raise LookupError(f"nobody has slot {slot}")

    def kill(self, node: RedisProcess) -> None:
        """At once, as a host is lost."""
        node.kill()
        self._killed.add(node.port)

    def restart(self, node: RedisProcess) -> None:
        """It comes back empty, as who it was."""
        if node.port not in self._killed:
            node.stop(remove=False)
        node.start()
        self._killed.discard(node.port)

    def wait_until_healthy(self, within_s: float = HEALTHY_WITHIN_S) -> None:
        """Until the living agree on who has which slot, all are taken by one of them, and each
        replica follows its primary."""
        _until(self._is_healthy, within_s)

    def _is_healthy(self) -> bool:
        living = self.living()
        views = [_view(node) for node in living]
        maps = {str(sorted((p, str(node["slots"])) for p, node in view.items())) for view in views}
        if len(maps) != 1:
            return False
        taken = 0
        for port, known in views[0].items():
            if known["slots"] and port in self._killed:
                return False
            taken += sum(last - first + 1 for first, last in _ranges(known))
        if taken != SLOTS:
            return False
        for node in living:
            info = _ask(node, "INFO", "replication")
            if info["role"] == "slave" and info["master_link_status"] != "up":
                return False
            if _ask(node, "CLUSTER INFO")["cluster_state"] != "ok":
                return False
        return True

    def move_slots(self, slots: Iterable[int], target: RedisProcess) -> None:
        """As an operator reshards: slot by slot, key by key, while clients go on."""
        for slot in slots:
            source = self.owner_of(slot)
            if source is not target:
                self.begin_move(slot, source, target)
                self.move_keys(slot, source, target)
                self.end_move(slot, source, target)

    def begin_move(self, slot: int, source: RedisProcess, target: RedisProcess) -> None:
        _ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", node_id(source))
        _ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", node_id(target))

    def move_keys(self, slot: int, source: RedisProcess, target: RedisProcess) -> None:
        password = unquote(urlsplit(target.url).password or "")
        auth = ("AUTH", password) if password else ()
        while keys := _ask(source, "CLUSTER GETKEYSINSLOT", slot, 100):
            for key in keys:
                place = "127.0.0.1", target.port, key, 0, 5_000
                _ask(source, "MIGRATE", *place, *auth)

    def end_move(self, slot: int, source: RedisProcess, target: RedisProcess) -> None:
        others = [node for node in self.living() if node not in (source, target)]
        for node in (target, source, *others):
            # Replicas hear of it from their primaries, and refuse.
            if _ask(node, "INFO", "replication")["role"] == "master":
                _ask(node, "CLUSTER SETSLOT", slot, "NODE", node_id(target))

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
        self.nodes = []


def with_password(flavour: str) -> ClusterProcesses:
    options = ["--requirepass", "se:cret@", "--masterauth", "se:cret@"]
    return ClusterProcesses(
        flavour, options=options, url="redis://:se%3Acret%40@127.0.0.1:{port}/0"
    )


class TlsCluster(ClusterProcesses):
    """Over TLS, also among its nodes. Only Debian's Redis: the embedded Valkey has no TLS."""

    def __init__(self) -> None:
        self._certificates = Path(tempfile.mkdtemp(prefix="iota-tls-"))
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        paths = [str(self._certificates / name) for name in ("ca.pem", "cert.pem", "key.pem")]
        authority.cert_pem.write_to_path(paths[0])
        certificate.cert_chain_pems[0].write_to_path(paths[1])
        certificate.private_key_pem.write_to_path(paths[2])
        options = ["--port", "0", "--tls-port", "{port}", "--tls-auth-clients", "no"]
        options += ["--tls-cluster", "yes", "--tls-replication", "yes"]
        options += ["--tls-ca-cert-file", paths[0]]
        options += ["--tls-cert-file", paths[1], "--tls-key-file", paths[2]]
        url = f"rediss://127.0.0.1:{{port}}/0?ssl_ca_certs={paths[0]}"
        super().__init__("redis", options=options, url=url)

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(self._certificates, ignore_errors=True)


def node_id(node: RedisProcess) -> str:
    found: bytes = _ask(node, "CLUSTER MYID")
    return found.decode()


def _bus_port(node: RedisProcess) -> int:
    return int(node._options[node._options.index("--cluster-port") + 1])


def _view(node: RedisProcess) -> dict[int, dict[str, Any]]:
    """Port -> what the node says of the node there."""
    said: dict[str, dict[str, Any]] = _ask(node, "CLUSTER NODES")
    return {int(address.rpartition(":")[2]): known for address, known in said.items()}


def _ranges(known: dict[str, Any]) -> list[tuple[int, int]]:
    return [(int(part[0]), int(part[-1])) for part in known["slots"]]


def _ask(node: RedisProcess, *command: Any) -> Any:
    with node.client() as client:
        return client.execute_command(*command)


def _until(condition: Callable[[], bool], within_s: float = HEALTHY_WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            if condition():
                return
        except (redis.RedisError, OSError):
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"the cluster was not ready within {within_s} s")
        time.sleep(0.05)
