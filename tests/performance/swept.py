"""What a sweep through many keys costs: time, the sweeper's memory, and what checks feel of it.

    python -m tests.performance.swept --keys 5000000

A Valkey of its own is filled with buckets (of four in ten all or a part is of a limit that is
gone), logs and slots, some without an end. A process checks all the while, as a site does: its p99
before the sweep and during it are what is compared.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from typing import Any

from apps.ratelimits.policy.identity import DIGEST_CHARS, digest
from apps.ratelimits.policy.rules import Algorithm, Rate, Rule
from apps.ratelimits.storage.background import in_background
from apps.ratelimits.storage.limiter import RateLimiter, Target
from apps.ratelimits.storage.living import Known
from apps.ratelimits.storage.packing import command
from apps.ratelimits.storage.sweep import PAGE, RATE_PER_S, Sweeper
from apps.ratelimits.tests.buckets import pack_bucket
from apps.ratelimits.tests.limiters import make_limiter
from tests.servers import RedisProcess

HOUR_US = 3_600_000_000
LIVES, ALSO, GONE = 1, 2, 9
BATCH = 2_000
IN_TEN = ["lives", "lives", "lives", "lives", "gone", "gone", "mixed", "mixed", "log", "slots"]
PAUSE_S = 0.001
ALONE_S = 20.0


def filled(limiter: RateLimiter, number: int) -> dict[str, int]:
    """How many keys of each kind there are."""
    connection = limiter.client.connection_pool.get_connection()
    seconds, micros = limiter.client.time()
    now_us = seconds * 1_000_000 + micros
    ends = now_us + 6 * HOUR_US
    values = {
        "lives": pack_bucket(now_us, {LIVES * 4: (0, ends, 3, 0), ALSO * 4: (0, ends, 9, 0)}),
        "gone": pack_bucket(now_us, {GONE * 4: (0, ends, 3, 0)}),
        "mixed": pack_bucket(now_us, {LIVES * 4: (0, ends, 3, 0), GONE * 4: (0, ends, 9, 0)}),
    }
    made = dict.fromkeys([*values, "log", "slots", "forever"], 0)
    log = Rule(id=GONE, name="log", rate=Rate(Algorithm.SLIDING_LOG, 10, HOUR_US, 10))
    slots = Rule(id=LIVES, name="slots", rate=Rate(Algorithm.CONCURRENCY, 10, HOUR_US, 10))
    for start in range(0, number, BATCH):
        sent = []
        for n in range(start, min(start + BATCH, number)):
            kind, who = IN_TEN[n % 10], digest(b"k", str(n))
            made[kind] += 1
            if kind == "log":
                sent.append(command("RPUSH", limiter.keys.sidecar(log, who) or "", f"{now_us}:1"))
            elif kind == "slots":
                key = limiter.keys.sidecar(slots, who) or ""
                sent.append(command("ZADD", key, now_us + 6 * HOUR_US, "m" * 24))
                sent.append(command("PEXPIRE", key, 6 * 3_600_000))
            elif n % 200 == 0:
                made["forever"] += 1
                sent.append(command("SET", limiter.keys.bucket(who), values[kind]))
            else:
                sent.append(
                    command("SET", limiter.keys.bucket(who), values[kind], "PX", 6 * 3_600_000)
                )
        connection.send_packed_command([b"".join(sent)])
        for _ in sent:
            connection.read_response()
    limiter.client.connection_pool.release(connection)
    return made


def known() -> Known:
    return Known(1, {LIVES: 0, ALSO: 0}, {LIVES: HOUR_US, ALSO: HOUR_US}, highest=100)


def sweeping(url: str, options: dict[str, Any], results: Any) -> None:
    """In a process of its own, as a worker is."""
    limiter = make_limiter(url, redis_timeout_ms=5_000)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s, cpu_s = time.monotonic(), time.process_time()
    made = Sweeper(limiter.client, limiter.keys, lambda last: last or known(), **options)
    in_background(made.run, lambda: None)
    results.put(
        {
            "took_s": round(time.monotonic() - began_s, 1),
            "cpu_s": round(time.process_time() - cpu_s, 1),
            "rss_before_mb": round(before_kb / 1024, 1),
            "rss_after_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "seen": made.tally.seen,
            "removed": dict(made.tally.removed),
            "records": made.tally.records,
            "bounded": made.tally.bounded,
            "left": made.tally.left,
            "freed_bytes": made.tally.freed_bytes,
            "error": made.places[0].error,
        }
    )


def checking(url: str, until: Any, results: Any) -> None:
    """Two limits of hot identities, at a pace; how long each took, until it is told to end."""
    limiter = make_limiter(url, redis_timeout_ms=5_000)
    rules = [
        Rule(id=n, name=str(n), rate=Rate(Algorithm.FIXED_WINDOW, 10**6, HOUR_US, 10**6))
        for n in (LIVES, ALSO)
    ]
    whom = [f"hot{n}".ljust(DIGEST_CHARS, "-") for n in range(1_000)]
    taken: list[float] = []
    at = 0
    while not until.is_set():
        who = whom[at % len(whom)]
        at += 1
        began_s = time.perf_counter()
        limiter.check([Target(rule, who) for rule in rules])
        taken.append((time.perf_counter() - began_s) * 1e6)
        time.sleep(PAUSE_S)
    figures = statistics.quantiles(taken, n=1_000)
    results.put(
        {
            "checks": len(taken),
            "p50_us": round(figures[499]),
            "p99_us": round(figures[989]),
            "p999_us": round(figures[998]),
            "failures": limiter.failures.total,
        }
    )


def measured(url: str, during: Any) -> tuple[dict[str, Any], Any]:
    context = multiprocessing.get_context("spawn")
    until, results = context.Event(), context.Queue()
    worker = context.Process(target=checking, args=(url, until, results))
    worker.start()
    time.sleep(3)
    came = during()
    until.set()
    found = results.get(timeout=60)
    worker.join()
    return found, came


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=5_000_000)
    parser.add_argument("--page", type=int, default=PAGE)
    parser.add_argument("--rate", type=float, default=RATE_PER_S)
    parser.add_argument("--again", action="store_true", help="once more, with nothing to remove")
    options = parser.parse_args()
    server = RedisProcess().start()
    try:
        limiter = make_limiter(server.url, redis_timeout_ms=5_000)
        began_s = time.monotonic()
        said: dict[str, Any] = {"filled": filled(limiter, options.keys)}
        said["filling_s"] = round(time.monotonic() - began_s, 1)
        said["used_memory_mb"] = limiter.client.info("memory")["used_memory"] // 2**20
        said["alone"], _ = measured(server.url, lambda: time.sleep(ALONE_S))
        context = multiprocessing.get_context("spawn")
        wanted = {"page": options.page, "rate_per_s": options.rate}

        def swept() -> dict[str, Any]:
            results = context.Queue()
            worker = context.Process(target=sweeping, args=(server.url, wanted, results))
            worker.start()
            found: dict[str, Any] = results.get(timeout=3_600)
            worker.join()
            return found

        said["beside"], said["sweep"] = measured(server.url, swept)
        if options.again:
            said["beside_again"], said["sweep_again"] = measured(server.url, swept)
        said["alone_after"], _ = measured(server.url, lambda: time.sleep(ALONE_S))
        said["used_memory_after_mb"] = limiter.client.info("memory")["used_memory"] // 2**20
        said["keys_after"] = limiter.client.dbsize()
        said["p99_ratio"] = round(said["beside"]["p99_us"] / said["alone"]["p99_us"], 2)
        print(json.dumps(said, indent=1))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
