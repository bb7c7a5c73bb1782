"""How many users, when: pure functions of the seconds since the start. None: the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

STEPS = 10


@dataclass(frozen=True, slots=True)
class Stage:
    until_s: float
    users: int
    per_s: float


def steps(users: int, per_s: float, run_time_s: float) -> list[Stage]:
    """Ten equal steps up to ``users``: which of them is too much?"""
    return [
        Stage(run_time_s * step / STEPS, max(1, users * step // STEPS), per_s)
        for step in range(1, STEPS + 1)
    ]


def spike(users: int, per_s: float, run_time_s: float) -> list[Stage]:
    """A tenth of the users, all of them at once for a fifth of the time, a tenth again."""
    few = max(1, users // 10)
    return [
        Stage(run_time_s * 0.4, few, per_s),
        Stage(run_time_s * 0.6, users, users),
        Stage(run_time_s, few, users),
    ]


def soak(users: int, per_s: float, run_time_s: float) -> list[Stage]:
    """Half of the users for all of the time: what leaks shows late."""
    return [Stage(run_time_s, max(1, users // 2), per_s)]


SHAPES: Mapping[str, Callable[[int, float, float], list[Stage]]] = {
    "steps": steps,
    "spike": spike,
    "soak": soak,
}


def stage_at(stages: Sequence[Stage], at_s: float) -> Stage | None:
    return next((stage for stage in stages if at_s < stage.until_s), None)
