"""What the limiter did, over all processes: totals that each process adds up (storage/tally.py)
and flushes once a second, and their reading."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate, chain, zip_longest
from typing import Any

import redis

from . import scripts
from .failures import as_unavailable
from .keys import Keys
from .topology import Client

CHECK_BOUNDS_US = (
    50, 100, 150, 200, 300, 400, 600, 800, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000,
    15_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
)  # fmt: skip
"""Upper bounds of the histogram of how long a check took; what took longer is one more bucket."""

REMEMBERED_S = 3_600
"""A process that says nothing for so long has ended: what it sent last need not be known."""


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """Verdicts of one limit. ``would_deny`` is what a limit in shadow, or outside its canary, would
    have denied; ``degraded`` those that its failure policy decided (they are among the others).

    ``sum_us``: how long the checks took that it had a part in, each counted in full for each of
    its limits. No part of an equality: the same verdicts may have taken longer.
    """

    allowed: int = 0
    denied: int = 0
    would_deny: int = 0
    degraded: int = 0
    sum_us: int = field(default=0, compare=False)

    @property
    def checks(self) -> int:
        return self.allowed + self.denied + self.would_deny

    @property
    def mean_us(self) -> float | None:
        return self.sum_us / self.checks if self.checks else None

    def since(self, previous: LimitUsage) -> LimitUsage:
        """What came between two readings."""
        return LimitUsage(
            *(max(0, getattr(self, name) - getattr(previous, name)) for name in LIMIT_FIELDS)
        )


LIMIT_FIELDS = tuple(part.name for part in fields(LimitUsage))


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals since ``since_s`` (Redis' clock): where that differs from the last reading's, Redis
    has lost what was counted, and all of these began anew. 0.0: nobody has counted yet.

    ``requests`` were answered by the middleware, ``errors`` of them with a 5xx that no policy asked
    for. ``allowed`` and ``denied`` are the requests that a limit was asked about, and those refused
    where no limits could be had. ``checks`` are counts by bucket of ``CHECK_BOUNDS_US``, one longer
    than it.
    """

    since_s: float
    requests: int = 0
    errors: int = 0
    allowed: int = 0
    denied: int = 0
    degraded: int = 0
    checks: tuple[int, ...] = (0,) * (len(CHECK_BOUNDS_US) + 1)
    checks_sum_us: int = 0
    pool_waits: int = 0
    limits: Mapping[int, LimitUsage] = field(default_factory=dict)
    """By the limit's id."""

    def since(self, previous: Usage) -> Usage:
        """What came between two readings; all of this one's, where the totals began anew since.

        Never negative: a replica that took over may know a little less than its primary did.
        """
        if previous.since_s != self.since_s:
            return self
        pairs = zip_longest(self.checks, previous.checks, fillvalue=0)
        return replace(
            self,
            **{name: max(0, getattr(self, name) - getattr(previous, name)) for name in TOTALS},
            checks=tuple(max(0, now - then) for now, then in pairs),
            limits={
                number: usage.since(previous.limits.get(number, NOTHING))
                for number, usage in self.limits.items()
            },
        )


NOTHING = LimitUsage()
TOTALS = (
    "requests", "errors", "allowed", "denied", "degraded", "checks_sum_us", "pool_waits",
)  # fmt: skip
"""The numbers of ``Usage``, which are fields of the same names in the hash. Beside them are
``check:<bound>`` for each bucket, and ``limit:<id>:<name>`` for each of ``LIMIT_FIELDS``."""
CHECKS = tuple(f"check:{bound}" for bound in (*CHECK_BOUNDS_US, "over"))


def limit_fields(number: int) -> list[str]:
    """Those of a limit, in the order of ``LIMIT_FIELDS``."""
    return [f"limit:{number}:{name}" for name in LIMIT_FIELDS]


def bucket_of(took_us: float) -> int:
    return bisect_left(CHECK_BOUNDS_US, took_us)


def percentile_us(buckets: Sequence[int], p: float) -> float | None:
    """What ``p`` per cent (0 to 100) of the checks took at most; None of no checks at all.

    Linear within the bucket that the percentile falls into, where the true one lies too: off by
    less than that bucket is wide, which is two thirds of its lower bound at most from 0.1 to 25 ms,
    and so never on the wrong side of a bound. Of the last bucket, which has no end, it is the lower
    bound: it took that long at least.
    """
    total = sum(buckets)
    if not total:
        return None
    rank = total * min(max(p, 0.0), 100.0) / 100
    lower = 0
    for upto, count, bound in zip(accumulate(buckets), buckets, CHECK_BOUNDS_US, strict=False):
        if count and upto >= rank:
            return lower + (bound - lower) * (rank - (upto - count)) / count
        lower = bound
    return float(CHECK_BOUNDS_US[-1])


class UsageStore:
    """Every method is one call, and raises storage.errors.Unavailable where Redis does not
    answer."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._key = keys.usage

    def read(self) -> Usage:
        found = self._ask("hgetall", self._key)
        return decode({_text(name): _text(value) for name, value in found.items()})

    def read_limit(self, number: int) -> Usage:
        """With one limit's numbers alone, and no totals: where there are thousands of limits, all
        of them are much to read."""
        names = ["since", *limit_fields(number)]
        found = zip(names, self._ask("hmget", self._key, names), strict=True)
        return decode({name: _text(value) for name, value in found if value is not None})

    def add(self, process: str, batch: int, counted: Mapping[str, int]) -> bool:
        """Add to the totals, by field. A process numbers its batches upwards; what is sent again
        under the same number is not added again: False."""
        source = scripts.load("usage").source
        words = chain.from_iterable(counted.items())
        arguments = (process, batch, REMEMBERED_S, *words)
        return bool(self._ask("eval", source, 1, self._key, *arguments))

    def forget(self, limits: Collection[int]) -> int:
        """Remove the counts of limits that are no more, by id; how many fields that were.

        A process that had not heard of it yet may bring one back within a second or so.
        """
        names = list(chain.from_iterable(map(limit_fields, limits)))
        return int(self._ask("hdel", self._key, *names)) if names else 0

    def _ask(self, command: str, *args: Any) -> Any:
        try:
            return getattr(self._client, command)(*args)
        except (redis.RedisError, OSError) as error:
            raise as_unavailable(error) or error from error


def decode(found: Mapping[str, str]) -> Usage:
    """Of the hash. What another version of this code has written beside it is passed over; bounds
    of another version count in the bucket that holds them."""
    numbers = {name: int(value) for name, value in found.items() if value.isdecimal()}
    checks = [0] * len(CHECKS)
    limits: dict[int, dict[str, int]] = {}
    for name, number in numbers.items():
        match name.split(":"):
            case ["check", bound] if bound == "over" or bound.isdecimal():
                checks[-1 if bound == "over" else bucket_of(int(bound))] += number
            case ["limit", limit, part] if limit.isdecimal() and part in LIMIT_FIELDS:
                limits.setdefault(int(limit), {})[part] = number
    return Usage(
        since_s=numbers.get("since", 0) / 1_000_000,
        checks=tuple(checks),
        limits={limit: LimitUsage(**parts) for limit, parts in sorted(limits.items())},
        **{name: numbers.get(name, 0) for name in TOTALS},
    )


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
