"""Limiters, limits and identities for tests of what is stored, and what the arithmetic expects."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from apps.ratelimits.policy import algorithms
from apps.ratelimits.policy.decision import Charge
from apps.ratelimits.policy.identity import DIGEST_CHARS
from apps.ratelimits.policy.rules import Algorithm, Counts, Mode, Rate, Rule
from apps.ratelimits.storage.limiter import RateLimiter, Target
from apps.ratelimits.storage.topology import Topology
from tests.servers import RedisProcess

A, B = "a" * DIGEST_CHARS, "b" * DIGEST_CHARS
REMEMBERED = [a for a in Algorithm if a is not Algorithm.CONCURRENCY]
"""Those whose denials a process remembers."""


def config(**changes: Any) -> Any:
    values = {
        "redis_url": "",
        "key_prefix": "iota:",
        "identity_key": b"k" * 32,
        "redis_timeout_ms": 500,
        "redis_max_connections": 50,
        "breaker_failures": 5,
        "breaker_open_ms": 200,
        "local_processes": 1,
    }
    return SimpleNamespace(**{**values, **changes})


def make_limiter(url: str, **changes: Any) -> RateLimiter:
    settings = config(redis_url=url, **changes)
    topology = Topology.parse(url, timeout_ms=settings.redis_timeout_ms, max_connections=50)
    return RateLimiter(settings, topology.client())


@pytest.fixture
def limiter(each_redis: RedisProcess) -> Iterator[RateLimiter]:
    made = make_limiter(each_redis.url)
    made.client.flushdb()
    yield made
    made.close()


def url_of(limiter: RateLimiter) -> str:
    options = limiter.client.connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/0"


def asked(limiter: RateLimiter) -> int:
    """How many scripts the server has run."""
    stats = limiter.client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, limiter: RateLimiter, work: Callable[[], Any]
) -> None:
    """Another thread's ``work``, once: while the next reply of its one server travels."""
    connections: Any = limiter.redis.nodes[0].connections
    ask, done = connections.ask, [False]

    def slow(command: bytes, *more: Any) -> Any:
        reply = ask(command, *more)
        if not done[0]:
            done[0] = True
            work()
        return reply

    monkeypatch.setattr(connections, "ask", slow)


def rule(
    algorithm: Algorithm = Algorithm.FIXED_WINDOW,
    quota: int = 3,
    window_us: int = 60_000_000,
    number: int = 1,
    **changes: Any,
) -> Rule:
    cost = changes.pop("cost", 1)
    burst = changes.pop("burst", quota)
    denials = {name: changes.pop(name) for name in ("charge_denied", "block_us") if name in changes}
    rate = Rate(algorithm, quota, window_us, burst, cost, **denials)
    return Rule(id=number, name=f"limit-{number}", rate=rate, **changes)


def in_order(targets: Iterable[Target]) -> list[Target]:
    """As a reply speaks of them: of each bucket in turn, by the limits' ids."""
    targets = list(targets)
    seen = [who for _, who in targets]
    return sorted(targets, key=lambda target: (seen.index(target.digest), target.rule.id))


class Oracle:
    """What the arithmetic says, given the server's times."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, int], algorithms.State] = {}

    def expect(self, targets: list[Target], now_us: int, member: str = "m") -> list[int]:
        outcomes = []
        for limit, who in targets:
            state = self.states.get((who, limit.id), algorithms.EMPTY)
            outcomes.append(algorithms.decide(limit.rate, state, now_us, None, member))
        allowed = all(
            ok
            for (limit, _), (ok, _, _) in zip(targets, outcomes, strict=True)
            if limit.mode is Mode.ENFORCE
        )
        reply = [int(allowed), now_us]
        for (limit, who), (ok, idle, counted) in zip(targets, outcomes, strict=True):
            state = counted if allowed or not ok else idle
            self.states[who, limit.id] = state
            reply += [int(ok) or state.blocked_until_us, state.a, state.b, state.c]
        return reply


def charges_of(limiter: RateLimiter, *targets: Target) -> tuple[Charge, ...]:
    decision = limiter.check(targets)
    assert decision.allowed
    return decision.charges


def by_status(limit: Rule) -> Rule:
    return replace(limit, counts=Counts.STATUS, statuses=((400, 499),))


def away(**changes: Any) -> RateLimiter:
    """One whose Redis is not there."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return make_limiter(f"redis://127.0.0.1:{port}/0", **changes)
