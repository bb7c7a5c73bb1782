"""What a check takes of the server and of the network: how many of them one node can bear."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from apps.ratelimits.policy.rules import Algorithm
from apps.ratelimits.storage.limiter import RateLimiter
from apps.ratelimits.storage.packing import PackedLimits

from ..records import Direction
from ..registry import Run, Samples, benchmark
from . import ours
from .race import identities

LIMITS = (1, 3, 10)
CHECKS = 4_000
"""Of a sample: a server's processor time is told in steps that a hundred checks would not fill."""


@contextmanager
def _checks(run: Run) -> Iterator[dict[int, ours.Check]]:
    """Of so many token buckets on one identity; everything is loaded and every bucket is there."""
    run.client.flushall()
    with ours.limiter(run) as made:
        found = {}
        for limits in LIMITS:
            packed = made.limits(
                ours.rules(Algorithm.TOKEN_BUCKET, ours.quotas(limits)), [0] * limits
            )
            found[limits] = _check(made, packed)
            for name in identities():
                found[limits](name)
        yield found
    run.client.flushall()


def _check(made: RateLimiter, packed: PackedLimits) -> ours.Check:
    # Each has identities of its own: a bucket holds the records of all limits on it.
    kind = f"user of {len(packed.rules)}"
    return lambda name: made.check_limits(packed, (made.digests.of((kind, name)),)).allowed


@benchmark(
    "wire-bytes",
    suite="limiter",
    metric="bytes on the wire per check",
    unit="bytes",
    direction=Direction.LOWER,
    parameters={"algorithm": "token_bucket"},
)
def wire_bytes(run: Run) -> Samples:
    """As the server counts them, without what TCP and IP add."""
    taken: dict[str, list[float]] = {}
    with _checks(run) as checks:
        for _ in range(run.rounds):
            for limits, check in checks.items():
                before = run.client.info("stats")
                for name in identities():
                    check(name)
                after = run.client.info("stats")
                # The reading itself is on the wire, too: once, beside many checks.
                asked = run.client.info("stats")
                for way, field in (("in", "input"), ("out", "output")):
                    counter = f"total_net_{field}_bytes"
                    reading = int(asked[counter]) - int(after[counter])
                    grown = int(after[counter]) - int(before[counter]) - reading
                    taken.setdefault(f"{limits}, {way}", []).append(grown / len(identities()))
    return Samples({name: tuple(values) for name, values in taken.items()})


@benchmark(
    "server-cpu",
    suite="limiter",
    metric="server's processor time per check",
    unit="us",
    direction=Direction.LOWER,
    parameters={"algorithm": "token_bucket", "clients": 1},
    sets=(),
)
def server_cpu(run: Run) -> Samples:
    """Of its main thread: reading, the script, and writing. With one client that waits for each
    answer, so that the server wakes up for every check: under load it does so for several."""
    taken: dict[str, list[float]] = {}
    names = identities()
    with _checks(run) as checks:
        for _ in range(run.rounds):
            for limits, check in checks.items():
                before_s = _main_thread_s(run)
                for number in range(CHECKS):
                    check(names[number % len(names)])
                spent_s = _main_thread_s(run) - before_s
                taken.setdefault(str(limits), []).append(spent_s / CHECKS * 1e6)
    return Samples({name: tuple(values) for name, values in taken.items()})


def _main_thread_s(run: Run) -> float:
    info = run.client.info("cpu")
    return float(info["used_cpu_user_main_thread"]) + float(info["used_cpu_sys_main_thread"])
