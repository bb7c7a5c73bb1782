"""The four numbers of the admin's start page, each with the last hour as a line: what is allowed
and denied, what the limiter costs a request, and how far Redis is away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.urls import reverse

from apps.monitoring import history
from apps.monitoring.admin.standing import OLD, shown
from apps.monitoring.metrics import METRICS, Kind
from apps.monitoring.models import Source

SPAN = timedelta(hours=1)
POINTS = 60
WIDTH, HEIGHT = 120, 28
"""Of the drawing, in its own units: the page stretches it."""


@dataclass(frozen=True, slots=True)
class Number:
    """``text`` is empty where it is not known, and ``beside`` says why. ``line`` are the strokes
    of an SVG of WIDTH by HEIGHT, one for each stretch without a hole; ``told`` says the line in
    words."""

    title: str
    text: str
    beside: str
    link: str
    line: tuple[str, ...] = ()
    told: str = ""


def numbers(now: datetime) -> list[Number]:
    """Two queries for the limiter, two for each node."""
    there = list(Source.objects.filter(gone_at=None))
    limiter = next((source for source in there if source.kind == Kind.LIMITER), None)
    link = reverse("admin:monitoring_health")
    return [*_of_the_limiter(limiter, now, link), _redis(there, now, link)]


def _of_the_limiter(source: Source | None, now: datetime, link: str) -> list[Number]:
    said = _said(source, now)
    lines = _lines(source, ["allowed_per_s", "denied_per_s", "check_p99_us"], now)
    without = _text(said, "degraded_per_s")
    median = _text(said, "check_p50_us")
    beside: dict[str, Callable[[], str]] = {
        "allowed_per_s": lambda: (
            f"of {_text(said, 'requests_per_s').removesuffix('/s')} requests/s"
        ),
        "denied_per_s": lambda: (
            "" if without in ("", "0/s") else f"{without} decided without Redis"
        ),
        "check_p99_us": lambda: f"p50 {median}" if median else "no checks just now",
    }
    titles = {"allowed_per_s": "Allowed", "denied_per_s": "Denied", "check_p99_us": "Check, p99"}
    return [
        _number(title, name, said, beside[name]() if said else UNKNOWN, link, lines.get(name, ()))
        for name, title in titles.items()
    ]


UNKNOWN = "not known: nobody has looked within a minute"


def _redis(there: Sequence[Source], now: datetime, link: str) -> Number:
    """The node that is farthest away. One that does not answer is what is said first."""
    nodes = [source for source in there if source.kind == Kind.NODE]
    silent = [source for source in nodes if source.error]
    if silent:
        more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
        return Number("Redis", "", f"{silent[0]}{more} does not answer", link)
    known = [(source, said) for source in nodes if (said := _said(source, now))]
    if not known:
        return Number("Redis", "", UNKNOWN, link)
    source, said = max(known, key=lambda one: one[1].get("round_trip_us") or 0.0)
    points = _lines(source, ["round_trip_us"], now)["round_trip_us"]
    beside = "round trip" if len(nodes) == 1 else f"longest round trip of {len(nodes)} nodes"
    return _number("Redis", "round_trip_us", said, beside, link, points)


def _said(source: Source | None, now: datetime) -> dict[str, float | None]:
    """Empty where nothing is known of now."""
    reading = history.latest(source) if source is not None and not source.error else None
    if reading is None or now - reading.at > OLD:
        return {}
    return dict(reading.values)


def _lines(
    source: Source | None, names: Sequence[str], now: datetime
) -> dict[str, list[history.Point]]:
    if source is None:
        return {}
    return history.lines(source, names, now - SPAN, now, POINTS)


def _text(said: dict[str, float | None], name: str) -> str:
    value = said.get(name)
    return "" if value is None else shown(value, METRICS[name].unit)


def _number(
    title: str,
    name: str,
    said: dict[str, float | None],
    beside: str,
    link: str,
    points: Sequence[history.Point],
) -> Number:
    known = [point.mean for point in points if point.mean is not None]
    told = ""
    if known:
        unit = METRICS[name].unit
        told = f"The last hour: {shown(min(known), unit)} to {shown(max(known), unit)}"
    return Number(title, _text(said, name), beside, link, line(points), told)


def line(points: Sequence[history.Point]) -> tuple[str, ...]:
    """Strokes from left to right, nought at the bottom; what is not known is a hole."""
    top = max((point.mean for point in points if point.mean is not None), default=0.0)
    step = WIDTH / max(1, len(points) - 1)
    strokes: list[list[str]] = [[]]
    for place, point in enumerate(points):
        if point.mean is None:
            strokes.append([])
            continue
        height = HEIGHT - 1 - (HEIGHT - 2) * (point.mean / top if top else 0.0)
        strokes[-1].append(f"{place * step:.1f},{height:.1f}")
    # A point by itself would not be seen.
    return tuple(" ".join([*stroke, stroke[0]]) for stroke in strokes if stroke)
