"""Values as people read them, with their unit."""

from __future__ import annotations

from .metrics import METRICS, Unit

_BYTES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def amount(value: float | None, unit: str = Unit.COUNT) -> str:
    """``83.2 %``, ``12.4 ms``, ``5 min``, ``1,024``; ``unknown`` for None."""
    if value is None:
        return "unknown"
    if unit == Unit.PERCENT:
        return f"{_digits(value)} %"
    if unit == Unit.US:
        return f"{_digits(value / 1_000)} ms" if abs(value) >= 1_000 else f"{_digits(value)} us"
    if unit == Unit.S:
        return _time(value)
    if unit == Unit.BYTES:
        for size, name in _BYTES:
            if abs(value) >= size:
                return f"{_digits(value / size)} {name}"
        return f"{_digits(value)} bytes"
    return f"{_digits(value)}/s" if unit == Unit.PER_S else _digits(value)


def of_metric(value: float | None, name: str) -> str:
    """In the unit of a metric."""
    metric = METRICS.get(name)
    return amount(value, metric.unit if metric else Unit.COUNT)


def _time(seconds: float) -> str:
    if seconds < 60 or seconds % 60:
        if seconds < 120:
            return f"{_digits(seconds)} s"
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes:,} min {rest} s" if minutes < 60 else f"{_digits(seconds / 3_600)} h"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 or minutes % 60 else f"{minutes // 60:,} h"


def _digits(value: float) -> str:
    """Three that mean something, whole from 100 on; whole numbers as they are."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
