"""What an identity costs in Redis, beside `limits`."""

from __future__ import annotations

import time
from collections.abc import Callable

from apps.ratelimits.policy.identity import digest
from apps.ratelimits.policy.rules import Algorithm
from apps.ratelimits.storage.limiter import Target as Asked

from ..records import Direction
from ..registry import Run, Samples, benchmark
from ..targets import Sense, Target
from . import ours, peers
from .race import WrongAnswer

IDENTITIES = 20_000
LIMITS_AND_BOUNDS = {1: 1.25, 3: 0.5, 10: 0.2}
ALGORITHMS = (Algorithm.TOKEN_BUCKET, Algorithm.FIXED_WINDOW)
QUOTA = 100
"""Few digits: `limits` writes it into its keys."""
BATCH = 200
SETTLE_S = 0.2
SETTLE_READS = 25


def _ours(algorithm: Algorithm, limits: int) -> str:
    return f"{algorithm}, {limits}"


def _theirs(limits: int) -> str:
    return f"{peers.LIMITS}, {limits}"


@benchmark(
    "memory",
    suite="limiter",
    metric="bytes per identity",
    unit="bytes",
    direction=Direction.LOWER,
    parameters={"identities": IDENTITIES},
    targets=tuple(
        Target(
            f"{limits} {algorithm} beside {limits} of `limits`",
            _theirs(limits),
            Sense.AT_MOST,
            bound,
            of=_ours(algorithm, limits),
        )
        for algorithm in ALGORITHMS
        for limits, bound in LIMITS_AND_BOUNDS.items()
    ),
)
def memory(run: Run) -> Samples:
    """Growth of ``used_memory``. Identities are a user's number: short keys for `limits`."""
    taken: dict[str, tuple[float, ...]] = {}
    absent: dict[str, str] = {}
    for limits in LIMITS_AND_BOUNDS:
        for algorithm in ALGORITHMS:
            fill = _fill_ours(run, algorithm, limits)
            taken[_ours(algorithm, limits)] = (_bytes_per_identity(run, fill, keys=1),)
        try:
            fill = _fill_limits(run, limits)
        except ImportError as error:
            absent[_theirs(limits)] = f"not installed ({error}); see requirements-dev.txt"
        else:
            taken[_theirs(limits)] = (_bytes_per_identity(run, fill, keys=limits),)
    return Samples(taken, absent)


def _bytes_per_identity(run: Run, fill: Callable[[], None], keys: int) -> float:
    run.client.flushall()
    before_bytes = _used_bytes(run)
    fill()
    found = int(run.client.dbsize())
    if found != IDENTITIES * keys:
        raise WrongAnswer(f"{found} keys where {IDENTITIES * keys} were to be")
    grown_bytes = _used_bytes(run) - before_bytes
    run.client.flushall()
    return grown_bytes / IDENTITIES


def _used_bytes(run: Run) -> int:
    """Once it holds still: tables are resized and buffers given back by and by."""
    last = -1
    for _ in range(SETTLE_READS):
        time.sleep(SETTLE_S)
        used = int(run.client.info("memory")["used_memory"])
        if used == last:
            break
        last = used
    return last


def _fill_ours(run: Run, algorithm: Algorithm, limits: int) -> Callable[[], None]:
    def fill() -> None:
        key = ours.config(run).identity_key
        rules = ours.rules(algorithm, ours.quotas(limits, least=QUOTA))
        with ours.limiter(run) as limiter:
            for number in range(IDENTITIES):
                who = digest(key, "user", str(number))
                limiter.check([Asked(rule, who) for rule in rules])

    return fill


def _fill_limits(run: Run, limits: int) -> Callable[[], None]:
    """As its ``RedisStorage.incr`` does it, but many in a pipeline; raises ImportError."""
    from limits import RateLimitItemPerDay
    from limits.storage import RedisStorage

    storage = RedisStorage(run.server.url)
    items = [RateLimitItemPerDay(quota) for quota in ours.quotas(limits, least=QUOTA)]

    def fill() -> None:
        for first in range(0, IDENTITIES, BATCH):
            pipeline = run.client.pipeline(transaction=False)
            for number in range(first, first + BATCH):
                for item in items:
                    key = storage.prefixed_key(item.key_for("user", str(number)))
                    storage.lua_incr_expire([key], [item.get_expiry(), 1], client=pipeline)
            pipeline.execute()

    return fill
