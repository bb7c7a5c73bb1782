"""What quota real use suggests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from .replay import Replayed, Said
from .rules import MAX_LOG_QUOTA, MAX_QUOTA, MAX_SLOTS, Algorithm, Rate
from .traffic import TOOK_UNKNOWN, Batch

FEW = 100
"""Of fewer identities there is no 99th of 100: the suggestion leaves out nobody."""


@dataclass(frozen=True, slots=True)
class Use:
    """Each identity's busiest window, units: over all of them. ``suggested``: None where nobody
    came."""

    identities: int
    p50: int = 0
    p95: int = 0
    p99: int = 0
    most: int = 0
    suggested: int | None = None


def use(traffic: Batch, rate: Rate, replayed: Replayed) -> Use:
    """Of all that the limit is about and nobody else denied, whatever it would have done itself."""
    peaks = sorted(peak for peak in _peaks(traffic, rate, replayed) if peak)
    if not peaks:
        return Use(0)
    p50, p95, p99 = (_percentile(peaks, p) for p in (50, 95, 99))
    needed = p99 if len(peaks) >= FEW else peaks[-1]
    # Counts of everyone together are of the sample; identities by themselves are whole.
    scaled = replayed.scaled
    most = {Algorithm.SLIDING_LOG: MAX_LOG_QUOTA, Algorithm.CONCURRENCY: MAX_SLOTS}
    suggested = min(rounded_up(needed * scaled), most.get(rate.algorithm, MAX_QUOTA))
    figures = (p50 * scaled, p95 * scaled, p99 * scaled, peaks[-1] * scaled)
    return Use(len(peaks), *figures, suggested)


def _peaks(traffic: Batch, rate: Rate, replayed: Replayed) -> Iterable[int]:
    at_us, took_us, said = traffic.at_us, traffic.took_us, replayed.said
    # Plain numbers: to compare with an enumeration's members would take most of the time.
    counted = {int(Said.ALLOWED), int(Said.DENIED)}
    for rows in replayed.held:
        own = [row for row in rows if said[row] in counted]
        if rate.algorithm is Algorithm.CONCURRENCY:
            known = (row for row in own if took_us[row] != TOOK_UNKNOWN)
            yield _at_once([(at_us[row], took_us[row]) for row in known], rate.window_us)
        else:
            yield rate.cost * _in_a_window([at_us[row] for row in own], rate.window_us)


def _in_a_window(times: Sequence[int], window_us: int) -> int:
    """The most within any span so long: one that grows where it may, and is moved on else."""
    first = 0
    for time_us in times:
        if times[first] <= time_us - window_us:
            first += 1
    return len(times) - first


def _at_once(spans: Sequence[tuple[int, int]], lease_us: int) -> int:
    ends: list[int] = []
    most = 0
    for at_us, took_us in spans:
        while ends and ends[0] <= at_us:
            heappop(ends)
        heappush(ends, at_us + min(took_us, lease_us))
        most = max(most, len(ends))
    return most


def _percentile(ordered: Sequence[int], percent: int) -> int:
    """The nearest rank: so many of a hundred need no more."""
    return ordered[-(-len(ordered) * percent // 100) - 1]


def rounded_up(number: int) -> int:
    """To two figures: 37 to 37, 137 to 140, 1,234 to 1,300."""
    step = int("1" + "0" * max(0, len(str(number)) - 2))
    return -(-number // step) * step
