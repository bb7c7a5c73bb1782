"""What happened between two looks at counters. Pure.

Counters of another run, or that ran backwards (CONFIG RESETSTAT, a Redis that lost what was
counted), begin anew: what would be made of them is unknown, never negative and never giant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apps.ratelimits.storage.usage import CHECK_BOUNDS_US

from .taken import Said

LONGEST_S = 60.0
"""What happened in a longer time says nothing about the ten seconds of a sample."""
FIRST = "known from the second look on"
ANEW = "its counter began anew since the look before"
NONE = "none"
"""Nothing happened that there could be a share or a quantile of: such a name is left out."""

PER_S = {
    "ops_per_s": "commands",
    "evicted_per_s": "evicted",
    "expired_per_s": "expired",
    "rejected_per_s": "rejected",
    "requests_per_s": "requests",
    "allowed_per_s": "allowed",
    "denied_per_s": "denied",
    "degraded_per_s": "degraded",
    "pool_waits_per_s": "pool_waits",
}
NUMBER = {"requests": "requests", "checks": "checks"}
SHARES = {"cpu_percent": ("cpu_s", None, 100.0), "error_percent": ("errors", "requests", 100.0)}
MEANS = {"command_us": ("script_us", "scripts", 1.0)}
QUANTILES = {"check_p50_us": ("check_", 0.5), "check_p99_us": ("check_", 0.99)}
SCRIPTS_LE = "scripts_le_"
"""How many script calls took this many us at most."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Counters as they stood at ``clock_s`` in the run ``run_id``."""

    run_id: str = ""
    clock_s: float = 0.0
    counters: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"run": self.run_id, "clock_s": self.clock_s, "counters": dict(self.counters)}

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> Counted:
        return cls(kept.get("run", ""), kept.get("clock_s", 0.0), kept.get("counters", {}))


def since(before: Counted, now: Counted) -> Said:
    """What is made of the counters that ``now`` has."""
    values: dict[str, float | None] = {}
    unknown: dict[str, str] = {}
    for name, value in _made(before, now):
        if value == NONE:
            continue
        if isinstance(value, str):
            values[name], unknown[name] = None, value
        else:
            values[name] = value
    return Said(values, unknown=unknown)


def _made(before: Counted, now: Counted) -> Iterator[tuple[str, float | str]]:
    """Names, each with its value or why there is none."""
    took_s = now.clock_s - before.clock_s
    same = before.run_id == now.run_id and 0 < took_s <= LONGEST_S

    def grown(counter: str) -> float | str:
        if not same or counter not in before.counters or counter not in now.counters:
            return FIRST
        by = now.counters[counter] - before.counters[counter]
        return by if by >= 0 else ANEW

    def share(counter: str, of: str | None, times: float) -> float | str:
        part, whole = grown(counter), took_s if of is None else grown(of)
        if isinstance(part, str) or isinstance(whole, str):
            return part if isinstance(part, str) else whole
        return times * part / whole if whole else NONE

    for name, counter in NUMBER.items():
        if counter in now.counters:
            yield name, grown(counter)
    for name, counter in PER_S.items():
        if counter in now.counters:
            yield name, share(counter, None, 1.0)
    for name, (counter, of, times) in (SHARES | MEANS).items():
        if counter in now.counters:
            yield name, share(counter, of, times)
    for name, (prefix, part) in QUANTILES.items():
        if f"{prefix}0" in now.counters:
            grew = [grown(f"{prefix}{place}") for place in range(len(CHECK_BOUNDS_US) + 1)]
            yield name, _quantile_of(CHECK_BOUNDS_US, grew, part)
    yield from _scripts(before, now, grown, same)
    yield from _slow(before, now, took_s, same)


def _scripts(
    before: Counted, now: Counted, grown: Any, same: bool
) -> Iterator[tuple[str, float | str]]:
    """LATENCY HISTOGRAM counts cumulatively, and names a bound only once something is below it."""
    if "scripts" not in now.counters:
        return
    bounds = _bounds(now)
    if not same:
        yield "command_p99_us", FIRST
    elif not bounds:
        yield "command_p99_us", NONE
    else:
        had, level, below = _bounds(before), 0.0, []
        for bound, number in sorted(bounds.items()):
            then = max((had[one] for one in had if one <= bound), default=0.0)
            below.append(number - then)
        grew = [high - low for low, high in zip([level, *below], below, strict=False)]
        backwards = any(number < 0 for number in grew)
        counts: list[float | str] = [ANEW] if backwards else [*grew, 0.0]
        yield "command_p99_us", _quantile_of(sorted(bounds), counts, 0.99)


def _bounds(counted: Counted) -> dict[float, float]:
    return {
        float(name.removeprefix(SCRIPTS_LE)): number
        for name, number in counted.counters.items()
        if name.startswith(SCRIPTS_LE)
    }


def _slow(
    before: Counted, now: Counted, took_s: float, same: bool
) -> Iterator[tuple[str, float | str]]:
    """The log numbers its entries for as long as the server lives, and may be emptied."""
    if "slow_kept" not in now.counters:
        return
    newest, last = now.counters.get("slow_newest"), before.counters.get("slow_newest")
    if not same:
        yield "slow_per_s", FIRST
    elif newest is None:
        yield "slow_per_s", 0.0
    elif last is not None:
        yield "slow_per_s", max(0.0, newest - last) / took_s
    else:
        yield "slow_per_s", now.counters["slow_kept"] / took_s


def _quantile_of(
    bounds: Sequence[float], counts: Sequence[float | str], part: float
) -> float | str:
    for number in counts:
        if isinstance(number, str):
            return number
    found = quantile(bounds, [float(number) for number in counts], part)
    return NONE if found is None else found


def quantile(bounds: Sequence[float], counts: Sequence[float], part: float) -> float | None:
    """Of a histogram: ``counts`` up to each of ``bounds``, and one more for all beyond, which are
    taken to lie on the last bound. Spread evenly within a bucket; None of nothing."""
    wanted = part * sum(counts)
    if not wanted:
        return None
    low, seen = 0.0, 0.0
    for bound, number in zip(bounds, counts, strict=False):
        if number and seen + number >= wanted:
            return low + (bound - low) * (wanted - seen) / number
        low, seen = bound, seen + number
    return float(bounds[-1])
