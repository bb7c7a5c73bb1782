"""What a source said at one time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..metrics import Kind


@dataclass(frozen=True, slots=True)
class Said:
    """A part of it: one command's answer. ``values``: a None is unknown, and ``unknown`` says why.

    ``counters`` only grow while a run lasts, and mean something beside those of the time before.
    ``notes`` say by metric's name what its number leaves open: of which memory it is a percentage.
    """

    values: Mapping[str, float | None] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def nothing(cls, metrics: Iterable[str], why: str) -> Said:
        names = list(metrics)
        return cls(values=dict.fromkeys(names), unknown=dict.fromkeys(names, why))

    def __or__(self, other: Said) -> Said:
        return Said(
            {**self.values, **other.values},
            {**self.counters, **other.counters},
            {**self.unknown, **other.unknown},
            {**self.notes, **other.notes},
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """``error``: why nothing was read. ``clock_s`` is the source's own time, where it tells it."""

    kind: Kind
    address: str
    said: Said = field(default_factory=Said)
    clock_s: float = 0.0
    run_id: str = ""
    role: str = ""
    server: str = ""
    replicas: Mapping[str, bool] | None = None
    """Of a primary, by address: whether each is online; None of what is none."""
    error: str = ""
