"""What the limiter did, over all processes: totals that each process adds up and flushes once a
second, and their reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CHECK_BOUNDS_US = (
    50, 100, 150, 200, 300, 400, 600, 800, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000,
    15_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
)  # fmt: skip
"""Upper bounds of the histogram of how long a check took; what took longer is one more bucket."""


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """Verdicts of one limit. ``would_deny`` is what a limit in shadow, or outside its canary, would
    have denied; ``degraded`` those that its failure policy decided (they are among the others)."""

    allowed: int = 0
    denied: int = 0
    would_deny: int = 0
    degraded: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals since ``since_s`` (Redis' clock): where that differs from the last reading's, Redis
    has lost what was counted, and all of these began anew.

    ``requests`` were answered by the middleware, ``errors`` of them with a 5xx that no policy asked
    for. ``checks`` are counts by bucket of ``CHECK_BOUNDS_US``, one longer than it.
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
