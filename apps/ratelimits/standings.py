"""Where counters stand, for people: read without charging anybody, a bar for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from .engine import Engine
from .policy.decision import Verdict
from .policy.explaining import capacity, used
from .policy.rules import Algorithm
from .storage.errors import Unavailable
from .storage.limiter import Target

_T = TypeVar("_T")

MOST_AT_ONCE = 100
"""Limits of one call: a call stops Redis for others."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One counter. ``used`` of ``capacity`` units; ``wait_s``: until the next request is allowed,
    0 where it is now; ``full_s``: until nothing is used any more."""

    used: int
    capacity: int
    allowed: bool
    wait_s: int
    full_s: int
    blocked: bool
    unit: str

    @property
    def percent(self) -> int:
        """At least 1 where anything is used, 100 only where all is."""
        if not self.used:
            return 0
        return min(100, max(1, 100 * self.used // self.capacity))

    @property
    def text(self) -> str:
        """``57 of 100 used; all free again in 26 s``."""
        said = f"{self.used:,} of {self.capacity:,} {self.unit}"
        if self.blocked:
            return f"{said}; denied for {span(self.wait_s)} more"
        if not self.allowed and self.wait_s:
            said += f"; the next in {span(self.wait_s)}"
        if self.full_s and self.used:
            said += f"; all free again in {span(self.full_s)}"
        return said


def bar(verdict: Verdict) -> Bar:
    rate, standing = verdict.rule.rate, verdict.standing
    return Bar(
        used=used(rate, standing),
        capacity=capacity(rate),
        allowed=verdict.allowed,
        wait_s=_up(standing.retry_after_us),
        full_s=_up(standing.reset_us),
        blocked=not verdict.allowed and bool(rate.block_us),
        unit="slots in use" if rate.algorithm is Algorithm.CONCURRENCY else "used",
    )


def look(engine: Engine, targets: Sequence[Target]) -> list[Verdict]:
    """What each limit would say now, in the order of ``targets``, of which each is another limit's.
    Nobody is charged. Raises Unavailable."""
    found: dict[int, Verdict] = {}
    for at in range(0, len(targets), MOST_AT_ONCE):
        part = targets[at : at + MOST_AT_ONCE]
        verdicts = patiently(partial(_peeked, engine, part))
        found.update((verdict.rule.id, verdict) for verdict in verdicts)
    return [found[target.rule.id] for target in targets]


def patiently(ask: Callable[[], _T]) -> _T:
    """What changes nothing may be asked twice: a page can wait where a request could not."""
    try:
        return ask()
    except Unavailable:
        return ask()


def _peeked(engine: Engine, part: Sequence[Target]) -> Sequence[Verdict]:
    verdicts = engine.limiter.peek(part).verdicts
    if len(verdicts) != len(part) or any(verdict.degraded for verdict in verdicts):
        raise Unavailable("Redis does not answer: where the counters stand is not known.")
    return verdicts


def span(seconds: int) -> str:
    """``42 s``, ``3 min``, ``2 h 5 min``, ``3 days``."""
    if seconds < 120:
        return f"{seconds} s"
    minutes = -(-seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{-(-hours // 24)} days"


def _up(us: int) -> int:
    return -(-us // 1_000_000)
