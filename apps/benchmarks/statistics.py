"""Figures of a sample, without assumptions of its distribution. No I/O, nothing of Django's."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(samples: Sequence[float], percent: float) -> float:
    """Between order statistics linearly, as numpy's default does (Hyndman and Fan's type 7).

    Raises ValueError without samples, or where ``percent`` is not 0 to 100.
    """
    if not samples:
        raise ValueError("a percentile of no samples")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent is {percent}: use 0 to 100")
    ordered = sorted(samples)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def median(samples: Sequence[float]) -> float:
    return percentile(samples, 50)


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """The 25th and the 75th percentile: half of the samples lie between."""
    return percentile(samples, 25), percentile(samples, 75)


def mean(samples: Sequence[float]) -> float:
    """Raises ValueError without samples."""
    if not samples:
        raise ValueError("a mean of no samples")
    return math.fsum(samples) / len(samples)


def deviation(samples: Sequence[float]) -> float:
    """The standard deviation of a sample (n - 1); 0 where one sample tells nothing of spread."""
    if len(samples) < 2:
        return 0.0
    middle = mean(samples)
    return math.sqrt(math.fsum((value - middle) ** 2 for value in samples) / (len(samples) - 1))


def mad(samples: Sequence[float]) -> float:
    """The median absolute deviation from the median, unscaled."""
    middle = median(samples)
    return median([abs(value - middle) for value in samples])


def paired_ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Round by round, so that what slowed a whole round down cancels out.

    The longer one's surplus is left out. Raises ZeroDivisionError where a divisor is 0.
    """
    return [a / b for a, b in zip(above, below, strict=False)]
