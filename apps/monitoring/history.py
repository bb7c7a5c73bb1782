"""Reading samples: the newest of a source, and one metric over a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from .models import Sample, Source


@dataclass(frozen=True, slots=True)
class Reading:
    """A sample as taken. A name of ``values`` that is None is unknown, and ``unknown`` says why."""

    at: datetime
    values: Mapping[str, float | None]
    unknown: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Point:
    at: datetime
    low: float
    mean: float
    high: float


def latest(source: Source) -> Reading | None:
    """The newest sample, however old; None where there is none."""
    found = source.samples.filter(resolution_s=Sample.SAMPLE_S).order_by("-at").first()
    return Reading(found.at, found.values, source.unknown) if found else None
