"""The limiter as the benchmarks ask it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import redis
from django.conf import settings

from apps.ratelimits.policy.rules import Algorithm, Rate, Rule
from apps.ratelimits.storage.limiter import DEFAULT_RULE, Config, RateLimiter
from apps.ratelimits.storage.topology import Topology

from ..registry import Run

TIMEOUT_MS = 1_000
MAX_CONNECTIONS = 64
DAY_US = 86_400_000_000
PLENTY = 1_000_000
"""A quota that no run uses up."""

Check = Callable[[str], bool]
"""Whether an identity's request is allowed; the request is charged."""


class FellBack(Exception):
    """The limiter decided without Redis, so that nothing was measured."""


def quotas(number: int, least: int = PLENTY) -> tuple[int, ...]:
    """Of ``number`` limits, no two alike; as round as people's are."""
    return tuple(least * n for n in range(1, number + 1))


def config(run: Run) -> Config:
    """The site's own, on this run's server."""
    found: Any = settings.IOTA_RATELIMITS
    made: Config = replace(
        found,
        redis_url=run.server.url,
        redis_timeout_ms=TIMEOUT_MS,
        redis_max_connections=MAX_CONNECTIONS,
    )
    return made


def client(run: Run) -> redis.Redis:
    """Also the floor's: what both can do better with the client is no difference between them."""
    topology = Topology.parse(
        run.server.url, timeout_ms=TIMEOUT_MS, max_connections=MAX_CONNECTIONS
    )
    return cast(redis.Redis, topology.client())


def rules(algorithm: Algorithm, quotas: Sequence[int], **more: Any) -> tuple[Rule, ...]:
    """A limit a day for each quota, with the parts of a Rule in ``more``."""
    return tuple(
        Rule(number, f"limit-{number}", Rate(algorithm, quota, DAY_US, burst=quota), **more)
        for number, quota in enumerate(quotas, 1)
    )


@contextmanager
def limiter(run: Run, rules: Sequence[Rule] = (DEFAULT_RULE,)) -> Iterator[RateLimiter]:
    """``rules`` are those of ``check_rate_limit``.

    Raises FellBack at the end where a call did not reach Redis.
    """
    made = RateLimiter(config(run), client(run), rules=rules)
    try:
        yield made
        failed = sum(node.breaker.failed_total for node in made.redis.nodes)
        if failed:
            raise FellBack(f"{failed} calls did not reach Redis; run it again")
    finally:
        made.close()


def on_one_identity(made: RateLimiter) -> Check:
    """All the limits that the limiter was made with."""
    ask = made.check_rate_limit
    return lambda identity: ask(identity).allowed


def on_two_identities(made: RateLimiter, rules: Sequence[Rule]) -> Check:
    """Half of the rules count an address and half a user: the engine asks so for a request."""
    half = len(rules) // 2
    limits = made.limits(rules, [0] * half + [1] * (len(rules) - half))
    digest_of, ask = made.digests.of, made.check_limits

    def check(identity: str) -> bool:
        whom = digest_of(("address", identity)), digest_of(("user", identity))
        return ask(limits, whom).allowed

    return check
