"""Contestants measured in turns: each round asks every one of them, in an order that turns round.

What slows the machine down for a while slows all of a round down; what heats up or fills up
does not always hit the same one.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from . import statistics

ROUND_S = 0.05
WARM_UP_S = 0.1
BLOCKS = 10
"""A round's sample is the median of so many blocks: one interruption does not move it."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """``call`` takes a subject (whom to check, as a rule) and does ``checks`` checks."""

    name: str
    call: Callable[[Any], object]
    subjects: Sequence[Any]
    checks: int = 1


def measure(
    contestants: Sequence[Contestant],
    rounds: int,
    *,
    between: Callable[[Contestant], None] = lambda contestant: None,
) -> dict[str, tuple[float, ...]]:
    """Microseconds per check of every contestant, a sample per round.

    ``between`` runs after each of a contestant's rounds, untimed: to see that all is well.
    """
    samples: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    with quiet_collector():
        sizes = {c.name: _block_size(_warm_up_us(c)) for c in contestants}
        subjects = {c.name: cycle(c.subjects) for c in contestants}
        for turn in range(rounds):
            for contestant in contestants if turn % 2 else reversed(contestants):
                name = contestant.name
                blocks = [list(islice(subjects[name], sizes[name])) for _ in range(BLOCKS)]
                gc.collect()
                took_us = [_time_us(contestant, block) for block in blocks]
                samples[name].append(statistics.median(took_us))
                between(contestant)
    return {name: tuple(values) for name, values in samples.items()}


@contextmanager
def quiet_collector() -> Iterator[None]:
    """A collection looks at new objects only: what lives already is nobody's garbage here."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _warm_up_us(contestant: Contestant) -> float:
    """Every subject once at least; returns what a call took, us."""
    started = time.perf_counter()
    for subject in contestant.subjects:
        contestant.call(subject)
    begun = time.perf_counter()
    for calls, subject in enumerate(cycle(contestant.subjects), 1):
        contestant.call(subject)
        now = time.perf_counter()
        if now - started > WARM_UP_S and calls >= BLOCKS:
            return (now - begun) / calls * 1e6
    raise ValueError(f"{contestant.name}: no subjects to check")


def _block_size(call_us: float) -> int:
    """So many calls that BLOCKS of them take about ROUND_S."""
    return max(1, round(ROUND_S * 1e6 / call_us / BLOCKS))


def _time_us(contestant: Contestant, block: list[Any]) -> float:
    call = contestant.call
    started = time.perf_counter()
    for subject in block:
        call(subject)
    return (time.perf_counter() - started) / len(block) / contestant.checks * 1e6
