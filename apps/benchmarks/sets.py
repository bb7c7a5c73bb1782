"""The sets of benchmarks: of each change, of each week, of each month."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Set:
    """``rounds`` is how many samples each benchmark takes; ``about`` is for people."""

    rounds: int
    about: str


SETS: Mapping[str, Set] = {
    "quick": Set(7, "what each change is tested with"),
    "full": Set(15, "every benchmark of ours, and the peers"),
    "analysis": Set(15, "how it scales with keys, limits and threads"),
}
