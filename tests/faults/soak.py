"""``make soak``: a site under mixed load for some minutes, a fault every 20 s, and what leaked.

Every algorithm, leases, slots, blocks and counting by response take part. A line for each fault;
at the end a verdict, and 1 as exit status where something leaked or was answered wrongly.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from .answers import Judge, exact_after_s, percentile
from .faults import NETWORK_FAULTS, SERVER_FAULTS, Fault, Ground
from .load import KINDS, Kind, Load
from .scenario import suffer
from .site import LIMITS, PROCESSES, Site, make_database

ROUND_S = 20.0
BEFORE_S = 5.0
WARM_UP_ROUNDS = 3
REST_S = 35.0
"""Granian ends threads that were idle for 30 s; slots that nobody released end after 5 s."""

MORE_LIMITS = """
mixed = dict(on_failure="local", window_amount=10, window_unit=1)
add(name="log", host="log.test", quota=20, algorithm="sliding_log", **mixed)
add(name="sliding", host="sliding.test", quota=50, algorithm="sliding_window", **mixed)
add(name="lease", host="lease.test", quota=200, algorithm="fixed_window", lease=20, **mixed)
add(name="missing", host="missing.test", quota=30, algorithm="fixed_window", counts="status",
    statuses="404", **mixed)
add(name="blocked", host="blocked.test", quota=5, algorithm="token_bucket", charge_denied=True,
    block_amount=2, block_unit=1, **mixed)
add(name="slots", host="slots.test", quota=2, algorithm="concurrency", counted_by="everyone",
    on_failure="local", window_amount=5, window_unit=1)
"""
MIXED = (
    Kind("log", "log.test", clients=1, requests_per_s=10, asks=40),
    Kind("sliding", "sliding.test", clients=1, requests_per_s=10, asks=40),
    Kind("lease", "lease.test", clients=2, requests_per_s=25, asks=0),
    Kind("missing", "missing.test", clients=1, requests_per_s=10, asks=40, path="/no/such/page"),
    Kind("blocked", "blocked.test", clients=1, requests_per_s=10, asks=40),
    Kind("slots", "slots.test", clients=4, requests_per_s=10, asks=40),
    Kind("page", "localhost", clients=1, requests_per_s=5, asks=40, path="/"),
)

CLIENTS = sum(kind.clients for kind in (*KINDS, *MIXED))
MOST_MORE_CONNECTIONS = PROCESSES * 4
"""A process keeps as many connections as it ever used at once: chance has it that these are a few
more at the end than after the warm-up. A leak would be at least one for each fault."""
MOST_MORE_FILES = 8
MOST_MORE_THREADS = 2
MOST_MORE_RSS = 24 << 20
"""Bytes of a process. What it remembers is bounded and fills up in these minutes: denials, local
counts and leases, of up to 10,000 identities each, at some 700 bytes."""

NO_TTL = {b"ruleset", b"resets", b"usage"}


@dataclass(frozen=True, slots=True)
class Sample:
    """While nobody asks. Of each process: bytes, threads, open files; then what Redis says."""

    rss: tuple[int, ...]
    threads: tuple[int, ...]
    files: tuple[int, ...]
    clients: int
    keys: int

    def __str__(self) -> str:
        rss = "/".join(f"{number / (1 << 20):.1f}" for number in self.rss)
        threads, files = ("/".join(map(str, many)) for many in (self.threads, self.files))
        return f"{rss:>13}  {threads:>7}  {files:>7}  {self.clients:>7}  {self.keys:>6}"


HEADING = (
    "   t, s  fault                       requests  wrong  5xx  p99, ms  longest, ms  exact, s"
    "       RSS, MiB  threads    files  clients    keys"
)


def sample(site: Site, ground: Ground) -> Sample:
    states = [Path(f"/proc/{pid}/status").read_text() for pid in site.pids]
    rows = [dict(line.split(":", 1) for line in state.splitlines()) for state in states]
    return Sample(
        rss=tuple(int(row["VmRSS"].split()[0]) << 10 for row in rows),
        threads=tuple(int(row["Threads"]) for row in rows),
        files=tuple(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in site.pids),
        clients=len(ground.others()),
        keys=ground.operator.dbsize(),
    )


def drawn(seed: int) -> Iterator[Fault]:
    """All of them, then all again in another order."""
    chance, every = random.Random(seed), (*SERVER_FAULTS, *NETWORK_FAULTS)
    while True:
        yield from chance.sample(every, k=len(every))


class Soak:
    def __init__(self, site: Site, ground: Ground, seed: int) -> None:
        self.site, self.ground = site, ground
        self.requests = self.wrong = self.errors = 0
        self.examples: list[str] = []
        self._faults = drawn(seed)
        self._begun_s = time.monotonic()

    def round(self) -> None:
        """One fault in the middle of a load."""
        fault = next(self._faults)
        until_s = time.monotonic() + ROUND_S
        load = Load([self.site.target], (*KINDS, *MIXED)).start()
        time.sleep(BEFORE_S)
        times = suffer(self.ground, fault)
        time.sleep(max(3.0, until_s - 1.0 - time.monotonic()))
        answers = load.stop()
        wrong = Judge(times, fault.disables and fault.lasts_s > 0, fault.keeps).all(answers)
        errors = [one for one in wrong if one.answer.status == 0 or one.answer.status >= 500]
        self.requests += len(answers)
        self.wrong += len(wrong)
        self.errors += len(errors)
        self.examples += [f"{fault}: {one}" for one in wrong[:3]]
        took = [1_000 * answer.took_s for answer in answers]
        time.sleep(max(0.5, until_s - time.monotonic()))
        say(
            f"{time.monotonic() - self._begun_s:7.0f}  {fault.name:<26}  {len(answers):>8}  "
            f"{len(wrong):>5}  {len(errors):>3}  {percentile(took, 0.99):>7.1f}  {max(took):>11.1f}"
            f"  {exact_after_s(answers, times):>8.2f}  {sample(self.site, self.ground)}"
        )

    def rest(self) -> Sample:
        time.sleep(REST_S)
        found = sample(self.site, self.ground)
        say(f"{time.monotonic() - self._begun_s:7.0f}  {'(rest)':<88}{found}")
        return found


def say(text: str) -> None:
    print(text, flush=True)


def leaks(before: Sample, after: Sample) -> list[str]:
    """What is more than its bound, in words."""
    found = []
    for name, had, has, most in (
        ("bytes of memory", before.rss, after.rss, MOST_MORE_RSS),
        ("threads", before.threads, after.threads, MOST_MORE_THREADS),
        ("open files", before.files, after.files, MOST_MORE_FILES),
        ("connections", (before.clients,), (after.clients,), MOST_MORE_CONNECTIONS),
    ):
        for was, is_now in zip(had, has, strict=True):
            if is_now > was + most:
                found.append(f"{name}: {is_now:,} after {was:,}, more than {most:,} more")
    return found


def left_in_redis(client: redis.Redis, prefix: str) -> list[str]:
    """Keys that would stay for ever, and slots that nobody holds any more."""
    found = []
    for key in client.scan_iter(match=f"{prefix}*", count=1_000):
        name = key.removeprefix(prefix.encode())
        if name not in NO_TTL and client.pttl(key) == -1:
            found.append(f"a key without TTL: {key.decode()}")
        if name.startswith(b"c:") and client.zcard(key):
            found.append(f"slots that nobody holds: {key.decode()}")
    return found


def run(minutes: float, seed: int, folder: Path) -> int:
    ground = Ground()
    site = Site("wsgi", folder, make_database(folder, LIMITS + MORE_LIMITS), ground.network.url)
    try:
        site.start().wait()
        say(f"{minutes:g} minutes, {CLIENTS} clients, {PROCESSES} processes, seed {seed}")
        say(HEADING)
        soak = Soak(site, ground, seed)
        for _ in range(WARM_UP_ROUNDS):
            soak.round()
        before = soak.rest()
        until_s = time.monotonic() + 60 * minutes
        while time.monotonic() < until_s - ROUND_S / 2:
            soak.round()
        after = soak.rest()
        bad = leaks(before, after) + left_in_redis(ground.operator, site.prefix)
    finally:
        site.stop()
        ground.close()
    if soak.wrong:
        bad += [f"{soak.wrong} wrong answers of {soak.requests:,}", *soak.examples]
    for text in bad:
        say(f"BAD: {text}")
    grown = [(b - a) / (1 << 20) for a, b in zip(before.rss, after.rss, strict=True)]
    shown = ", ".join(f"{growth:+.1f}" for growth in grown)
    say(f"{soak.requests:,} requests, {soak.wrong} wrong, {soak.errors} 5xx; memory {shown} MiB")
    say("FAILED" if bad else "nothing leaked")
    return 1 if bad else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="iota-soak-") as folder:
        return run(chosen.minutes, chosen.seed, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
