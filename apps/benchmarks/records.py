"""What a benchmark found: one record per metric and contestant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from . import statistics


class Direction(StrEnum):
    """Which way is better."""

    LOWER = "lower"
    HIGHER = "higher"


Parameter = str | int | float


@dataclass(frozen=True, slots=True)
class Result:
    """Samples of one metric under stated parameters; each sample is the median of a round.

    ``unit`` says in what the samples are. Raises ValueError without samples.
    """

    suite: str
    metric: str
    unit: str
    direction: Direction
    samples: tuple[float, ...]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError(f"{self.suite}/{self.metric}: no samples")

    @property
    def n(self) -> int:
        return len(self.samples)

    @property
    def minimum(self) -> float:
        return min(self.samples)

    @property
    def maximum(self) -> float:
        return max(self.samples)

    @property
    def best(self) -> float:
        return self.minimum if self.direction is Direction.LOWER else self.maximum

    @property
    def mean(self) -> float:
        return statistics.mean(self.samples)

    @property
    def deviation(self) -> float:
        return statistics.deviation(self.samples)

    @property
    def mad(self) -> float:
        return statistics.mad(self.samples)

    @property
    def p50(self) -> float:
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        return statistics.quartiles(self.samples)

    def percentile(self, percent: float) -> float:
        return statistics.percentile(self.samples, percent)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the figures are derived, the samples are what was measured."""
        return {
            "suite": self.suite,
            "metric": self.metric,
            "parameters": dict(self.parameters),
            "unit": self.unit,
            "direction": str(self.direction),
            "n": self.n,
            "min": self.minimum,
            "p25": self.quartiles[0],
            "p50": self.p50,
            "p75": self.quartiles[1],
            "p95": self.percentile(95),
            "p99": self.percentile(99),
            "max": self.maximum,
            "mean": self.mean,
            "deviation": self.deviation,
            "mad": self.mad,
            "samples": list(self.samples),
        }
