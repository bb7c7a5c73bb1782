"""A bucket's stored form, packed string against hash.

Run it: ``python -m tests.performance.stored_form``.

Both scripts do the same GCRA arithmetic for n limits of one identity, all or nothing, on servers
of our own; rounds are interleaved. The baseline is what `limits` stores: a counter per limit.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import redis
from redis.client import Pipeline

from tests.servers import RedisProcess, flavours

ROUNDS = 7
CALLS = 3_000
IDENTITIES = 20_000

STRING = """
local n, t = tonumber(ARGV[1]), redis.call('TIME')
local now, raw, old = t[1] * 1000000 + t[2], redis.call('GET', KEYS[1]), {}
if raw then
  for at = 9, #raw - 28, 29 do
    local id, epoch, expiry, a, b, c = struct.unpack('<I4I2I6I7I5I5', raw, at)
    old[id] = {epoch, expiry, a, b, c}
  end
end
local parts = {'\\1' .. struct.pack('<I7', now)}
for id = 1, n do
  local a = old[id] and old[id][3] or 0
  a = math.max(a, now) + 6
  if a > now + 60000000 then return 0 end
  parts[#parts + 1] = struct.pack('<I4I2I6I7I5I5', id, 0, math.floor(a / 1000) + 60000, a, 0, 0)
end
redis.call('SET', KEYS[1], table.concat(parts), 'PX', 600000)
return 1
"""

HASH = """
local n, t = tonumber(ARGV[1]), redis.call('TIME')
local now, fields = t[1] * 1000000 + t[2], {}
for id = 1, n do fields[id] = id end
local old, writes = redis.call('HMGET', KEYS[1], unpack(fields)), {}
for id = 1, n do
  local a = 0
  if old[id] then local _, _, was = struct.unpack('<I2I6I7I5I5', old[id]) a = was end
  a = math.max(a, now) + 6
  if a > now + 60000000 then return 0 end
  writes[#writes + 1] = id
  writes[#writes + 1] = struct.pack('<I2I6I7I5I5', 0, math.floor(a / 1000) + 60000, a, 0, 0)
end
redis.call('HSET', KEYS[1], unpack(writes))
redis.call('PEXPIRE', KEYS[1], 600000)
return 1
"""


def server_us(client: redis.Redis, sha: str, limits: int) -> float:
    """Microseconds of the server per call, over one identity that is known."""
    client.config_resetstat()
    for _ in range(CALLS):
        client.evalsha(sha, 1, "iota:b:{0123456789abcdefghijkl}", limits)
    return float(client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"])


def trip_us(client: redis.Redis, sha: str, limits: int) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        client.evalsha(sha, 1, "iota:b:{0123456789abcdefghijkl}", limits)
    return (time.perf_counter() - started) / CALLS * 1e6


def bytes_each(flavour: str, fill: Callable[[Pipeline, int], None]) -> float:
    """Bytes per identity, by a server of its own: what another round left behind is not counted."""
    server = RedisProcess(flavour).start()
    before = used_bytes(server)
    with server.client() as client:
        client.script_load(STRING)
        client.script_load(HASH)
        for first in range(0, IDENTITIES, 500):
            with client.pipeline(transaction=False) as pipeline:
                for number in range(first, first + 500):
                    fill(pipeline, number)
                pipeline.execute()
    after = used_bytes(server)
    server.stop()
    return (after - before) / IDENTITIES


def used_bytes(server: RedisProcess) -> int:
    with server.client() as client:
        return int(client.info("memory")["used_memory"])


def bucket(sha: str, limits: int) -> Callable[[Pipeline, int], None]:
    return lambda pipeline, number: pipeline.evalsha(sha, 1, f"iota:b:{{{number:022d}}}", limits)


def counters(limits: int) -> Callable[[Pipeline, int], None]:
    def fill(pipeline: Pipeline, number: int) -> None:
        address = f"203.0.{number // 256}.{number % 256}"
        for limit in range(limits):
            pipeline.set(f"LIMITS:LIMITER/{address}/{limit}/100/1/minute", 1, ex=600)

    return fill


def main() -> None:
    print("| server | limits | form | server us | trip us | bytes | counters' bytes |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for flavour in flavours():
        server = RedisProcess(flavour).start()
        with server.client() as client:
            info = client.info("server")
            name = f"{flavour} {info.get('valkey_version') or info['redis_version']}"
            shas = {"string": client.script_load(STRING), "hash": client.script_load(HASH)}
            for limits in (1, 3, 10):
                servers: dict[str, list[float]] = {form: [] for form in shas}
                trips: dict[str, list[float]] = {form: [] for form in shas}
                for _ in range(ROUNDS):
                    for form, sha in shas.items():
                        client.flushall()
                        servers[form].append(server_us(client, sha, limits))
                        trips[form].append(trip_us(client, sha, limits))
                peer = bytes_each(flavour, counters(limits))
                for form, sha in shas.items():
                    each = bytes_each(flavour, bucket(sha, limits))
                    print(
                        f"| {name} | {limits} | {form} | {statistics.median(servers[form]):.1f} "
                        f"| {statistics.median(trips[form]):.0f} | {each:.0f} | {peer:.0f} |",
                        flush=True,
                    )
        server.stop()


if __name__ == "__main__":
    main()
