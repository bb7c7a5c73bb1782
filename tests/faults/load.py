"""The load on the sites, from a process of its own, and every answer with its times.

``python -m tests.faults.load`` reads one line of JSON (the sites), keeps them busy until its
standard input ends, and writes the answers to standard output.

A *client* asks one thing at a time, as one address after the other, and each address as often as
its kind says. It has a connection to every process of the site and takes them in turns, so that
what it is told depends on all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
TIMEOUT_S = 10.0
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Kind:
    """What a client does: ``host`` names the limit that it meets (tests/faults/site.py)."""

    name: str
    host: str
    clients: int
    requests_per_s: float
    """Of one client."""
    asks: int
    """So often one address asks; 0: always the same address."""
    path: str = "/api/test"


KINDS = (
    Kind("local", "local.test", clients=4, requests_per_s=18, asks=10),
    Kind("allow", "allow.test", clients=2, requests_per_s=15, asks=10),
    Kind("deny", "deny.test", clients=2, requests_per_s=15, asks=10),
    Kind("across", "across.test", clients=1, requests_per_s=15, asks=0),
    Kind("bucket", "bucket.test", clients=1, requests_per_s=15, asks=0),
)


@dataclass(frozen=True, slots=True)
class Target:
    """A site: its server processes by pid."""

    name: str
    port: int
    pids: tuple[int, ...]


class Answer(NamedTuple):
    """``number``: the how many-th request of its address, from 1. ``process``: which of the
    site's answered. Times are of time.monotonic(), which all processes of a machine share.
    ``status`` 0: there was no answer, and ``error`` says why."""

    site: str
    kind: str
    who: str
    number: int
    process: int
    sent_s: float
    took_s: float
    status: int
    remaining: int
    """RateLimit's ``r``; -1: the answer has none."""
    explained: bool
    """Whether it is no denial, or says Retry-After and the problem type of its status."""
    error: str = ""

    @property
    def received_s(self) -> float:
        return self.sent_s + self.took_s


class Load:
    """The process, from outside. ``start`` returns when the load is on, ``stop`` its answers."""

    def __init__(self, sites: Sequence[Target], kinds: Sequence[Kind] = KINDS) -> None:
        self._sites, self._kinds = sites, kinds

    def start(self) -> Load:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        told = {
            "sites": [asdict(s) for s in self._sites],
            "kinds": [asdict(k) for k in self._kinds],
        }
        print(json.dumps(told), file=self._process.stdin, flush=True)
        if self._process.stdout.readline() != "on\n":
            self._process.kill()
            self._process.communicate()
            raise RuntimeError("the load did not start")
        return self

    def stop(self) -> list[Answer]:
        try:
            out, _ = self._process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        return [Answer(*answer) for answer in json.loads(out)]


Said = tuple[int, dict[str, str], bytes]
"""Status, fields and body."""

PROBLEMS = {429: b"#quota-exceeded", 503: b"#temporary-reduced-capacity"}


def _answer(
    name: str,
    kind: Kind,
    who: str,
    number: int,
    process: int,
    sent_s: float,
    said: Said | Exception,
) -> Answer:
    took_s = time.monotonic() - sent_s
    if isinstance(said, Exception):
        error = f"{type(said).__name__}: {said}"
        return Answer(name, kind.name, who, number, process, sent_s, took_s, 0, -1, False, error)
    status, fields, body = said
    found = re.search(r";r=(\d+)", fields.get("ratelimit", ""))
    explained = status in (200, 404) or (
        "retry-after" in fields and PROBLEMS.get(status, b"?") in body
    )
    return Answer(
        name,
        kind.name,
        who,
        number,
        process,
        sent_s,
        took_s,
        status,
        int(found[1]) if found else -1,
        explained,
    )


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with Content-Length, one request at a time."""

    def __init__(self) -> None:
        self._got = b""
        self._lost: Exception | None = None
        self._waiting: asyncio.Future[Said] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found or self._waiting is None or self._waiting.done():
            return
        status, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, value in (x.split(":", 1) for x in lines)}
        if len(body) >= int(fields["content-length"]):
            self._got = b""
            self._waiting.set_result((int(status.split()[1]), fields, body))

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = error or ConnectionError("the server closed the connection")
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(self._lost)

    async def ask(self, host: str, path: str, address: str) -> Said:
        """Raises OSError."""
        if self._lost is not None or self.transport is None:
            raise ConnectionError("not connected")
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: {address}\r\n\r\n".encode()
        )
        async with asyncio.timeout(TIMEOUT_S):
            return await self._waiting


async def _connect(port: int) -> _Connection:
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(_Connection, HOST, port)
    return made


def _owner(connection: _Connection, target: Target) -> int | None:
    """Which of the site's processes has accepted the connection."""
    assert connection.transport is not None
    mine = connection.transport.get_extra_info("sockname")[1]
    ends = f":{target.port:04X}", f":{mine:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *rest = line.split()
        if local.endswith(ends[0]) and remote.endswith(ends[1]):
            link = f"socket:[{rest[6]}]"
            for place, pid in enumerate(target.pids):
                with contextlib.suppress(OSError):
                    for open_file in Path(f"/proc/{pid}/fd").iterdir():
                        with contextlib.suppress(OSError):
                            if str(open_file.readlink()) == link:
                                return place
    return None


async def _connections(target: Target, each: int) -> list[list[_Connection]]:
    """So many to each process of the site. The kernel chooses who accepts: what is too much is
    closed."""
    found: list[list[_Connection]] = [[] for _ in target.pids]
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while min(map(len, found)) < each and time.monotonic() < deadline_s:
        made = await _connect(target.port)
        await made.ask("localhost", "/api/test", "127.0.0.1")
        place = _owner(made, target)
        if place is not None and len(found[place]) < each:
            found[place].append(made)
        elif made.transport:
            made.transport.close()
    if min(map(len, found)) < each:
        raise RuntimeError(f"{target.name}: not all processes accept connections: {target.pids}")
    return found


def _addresses() -> Iterator[str]:
    """New ones at every start of a load: the server may know those of the last."""
    first = int(time.time() * 10) << 12
    return (f"2001:db8:{(n >> 16) & 0xFFFF:x}:{n & 0xFFFF:x}::1" for n in count(first))


async def _client(
    target: Target,
    kind: Kind,
    connections: list[_Connection],
    addresses: Iterator[str],
    first_s: float,
    stop: asyncio.Event,
    answers: list[Answer],
) -> None:
    """At its pace; late, at once."""
    due_s, number, who = first_s, 0, next(addresses)
    while not stop.is_set():
        await asyncio.sleep(due_s - time.monotonic())
        due_s = max(due_s + 1 / kind.requests_per_s, time.monotonic())
        if kind.asks and number == kind.asks:
            number, who = 0, next(addresses)
        number += 1
        process = number % len(connections)
        sent_s = time.monotonic()
        said: Said | Exception
        try:
            said = await connections[process].ask(kind.host, kind.path, who)
        except (OSError, TimeoutError) as error:
            said = error
        answers.append(_answer(target.name, kind, who, number, process, sent_s, said))
        if isinstance(said, Exception):
            with contextlib.suppress(OSError):
                connections[process] = await _connect(target.port)


async def _keep_busy(sites: list[Target], kinds: list[Kind]) -> list[Answer]:
    stop, answers, addresses, clients = asyncio.Event(), [], _addresses(), []
    for target in sites:
        made = await _connections(target, sum(kind.clients for kind in kinds))
        for kind in kinds:
            for place in range(kind.clients):
                # Apart from each other, so that at any time some address is new, and never all
                # of them at the same moment.
                turn = (place + len(clients) * 0.618 % 1) / kind.clients
                first_s = time.monotonic() + turn * (kind.asks or 1) / kind.requests_per_s
                own = [of_process.pop() for of_process in made]
                clients.append((target, kind, own, addresses, first_s, stop, answers))
    running = [asyncio.create_task(_client(*client)) for client in clients]
    print("on", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    await asyncio.gather(*running)
    return answers


def main() -> None:
    told = json.loads(sys.stdin.readline())
    sites = [Target(s["name"], s["port"], tuple(s["pids"])) for s in told["sites"]]
    kinds = [Kind(**kind) for kind in told["kinds"]]
    print(json.dumps(asyncio.run(_keep_busy(sites, kinds))))


if __name__ == "__main__":
    main()
