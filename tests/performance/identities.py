"""An attacker with millions of identities, against a limit with and without an identity budget.

Run it: ``python -m tests.performance.identities`` (some 15 minutes on two cores); smaller:
``IDENTITIES=200000 BUDGET=40000``. The server is our own; requests go through Engine.plan and
Engine.check in two processes, each with its poller, one /64 of IPv6 after another, none twice.
Established visitors come first, and again at the end.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

IDENTITIES = int(os.environ.get("IDENTITIES", "5000000"))
BUDGET = int(os.environ.get("BUDGET", "1000000"))
PROCESSES = 2
VISITORS = 1_000
SAMPLED = 20
"""Of so many requests one is timed."""


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def make_engine(url: str) -> Any:
    os.environ.update(
        DJANGO_SETTINGS_MODULE="iota.settings",
        IOTA_DEMO="1",
        SECRET_KEY="s" * 40,
        IOTA_IDENTITY_KEY="i" * 40,
        DATABASE_URL="sqlite://:memory:",
        REDIS_URL=url,
        IOTA_REDIS_TIMEOUT_MS="2000",
        IOTA_LOG_LEVEL="ERROR",
    )
    import django

    django.setup()
    from apps.ratelimits import conf
    from apps.ratelimits.engine import Engine

    return Engine(conf.current())


def ask(engine: Any, number: int) -> bool:
    from apps.ratelimits.policy.facts import RequestFacts

    address = f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64"
    facts = RequestFacts("GET", "/api/test", address)
    return bool(engine.check(engine.plan(engine.candidates(facts), facts)).allowed)


def attack(url: str, first: int, last: int, said: Queue[dict[str, Any]]) -> None:
    """One process's part of the attack."""
    engine = make_engine(url)
    engine.start()
    for number in range(first, first + 1_000):  # Code and caches.
        ask(engine, number)
    before_mb, most_mb = rss_mb(), 0.0
    times: dict[bool, list[float]] = {False: [], True: []}
    denied = 0
    began_s = time.monotonic()
    for number in range(first + 1_000, last):
        if number % SAMPLED:
            denied += not ask(engine, number)
            continue
        over = any(limit.over for limit in engine.identities._limits.values())
        began_ns = time.perf_counter_ns()
        denied += not ask(engine, number)
        times[over].append((time.perf_counter_ns() - began_ns) / 1_000)
        if number % (SAMPLED * 1_000) == 0:
            most_mb = max(most_mb, rss_mb())
    engine.count_identities()
    said.put(
        {
            "seconds": time.monotonic() - began_s,
            "denied": denied,
            "before_mb": before_mb,
            "most_mb": most_mb,
            **{
                ("over" if over else "under"): statistics.median(sampled)
                for over, sampled in times.items()
                if sampled
            },
        }
    )
    engine.stop()


def run(budget: int) -> dict[str, Any]:
    from tests.servers import RedisProcess

    server = RedisProcess(options=["--maxmemory", "0"]).start()
    try:
        client = server.client()
        engine = make_engine(server.url)
        from apps.ratelimits.policy.rules import Algorithm, Rate, Rule, Ruleset

        # A day: nothing ends while this runs.
        rate = Rate(Algorithm.FIXED_WINDOW, 100, 86_400_000_000, 100)
        rule = Rule(1, "attacked", rate, identities=budget)
        engine.store.publish(Ruleset(1, (rule,)))
        engine.start()
        empty = client.info("memory")["used_memory"]
        visitors = range(1 << 31, (1 << 31) + VISITORS)
        for number in visitors:
            ask(engine, number)
        time.sleep(1)

        said: Queue[dict[str, Any]] = multiprocessing.get_context("spawn").Queue()
        part = IDENTITIES // PROCESSES
        attackers = [
            multiprocessing.get_context("spawn").Process(
                target=attack, args=(server.url, i * part, (i + 1) * part, said)
            )
            for i in range(PROCESSES)
        ]
        for attacker in attackers:
            attacker.start()
        results = [said.get() for _ in attackers]
        for attacker in attackers:
            attacker.join()
        # A process that has just started knows none of them: only the filter in Redis does.
        engine.stop()
        engine.limiter.close()
        late = make_engine(server.url)
        late.start()
        ask(late, 1 << 30)
        time.sleep(1)
        keys = list(client.scan_iter("iota:i:*", count=10_000))
        count = late.identity_count(rule)
        found = {
            "came": count.came if count else None,
            "buckets": sum(1 for _ in client.scan_iter("iota:b:*", count=10_000)),
            "used_mb": (client.info("memory")["used_memory"] - empty) / 1e6,
            "budget_mb": sum(client.memory_usage(key, samples=0) or 0 for key in keys) / 1e6,
            "visitors": sum(ask(late, number) for number in visitors),
            "newcomers": sum(ask(late, (1 << 30) + 1 + number) for number in range(VISITORS)),
            "attackers": results,
        }
        late.stop()
        late.limiter.close()
        client.close()
        return found
    finally:
        server.stop()


def main() -> None:
    if len(sys.argv) == 1:
        # Settings are read once per process, and each run has a server of its own.
        for budget in (BUDGET, 0):
            subprocess.run([sys.executable, "-m", __spec__.name, str(budget)], check=True)
        return
    budget = int(sys.argv[1])
    found = run(budget)
    print(f"{IDENTITIES:,} identities, budget {budget:,}" if budget else "no budget")
    for name, value in found.items():
        if name != "attackers":
            print(f"  {name:10}", f"{value:,.1f}" if isinstance(value, float) else value)
    for result in found["attackers"]:
        print("  process   ", {name: round(value, 1) for name, value in result.items()})


if __name__ == "__main__":
    main()
