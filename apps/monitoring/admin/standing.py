"""How each source stands now: its figures as people read them, and which of them are too high or
not known. Unknown is never fine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from ..history import Reading, latest
from ..metrics import METRICS, Kind, Metric, Unit
from ..models import AlertRule, Source
from ..turns import Watch

OLD = timedelta(seconds=60)
"""What was said longer ago says nothing about now."""
OF_A_NODE = (
    "memory_percent", "cpu_percent", "replication_lag_s", "clients_percent", "round_trip_us",
)  # fmt: skip
OF_THE_LIMITER = (
    "requests_per_s", "denied_per_s", "degraded_per_s", "check_p99_us", "error_percent",
    "queue_length", "processes", "processes_failing", "config_load_us",
)  # fmt: skip
OF_THE_QUEUES = ("queue_length", "unacked")
COLUMNS = {Kind.NODE: OF_A_NODE, Kind.LIMITER: OF_THE_LIMITER, Kind.BROKER: OF_THE_QUEUES}
SHORT = {
    "memory_percent": "Memory",
    "cpu_percent": "CPU",
    "replication_lag_s": "Lag",
    "clients_percent": "Connections",
    "round_trip_us": "Round trip",
}
BESIDE = {
    "memory_percent": (("memory_bytes", "{}"), ("evicted_per_s", "{} evicted")),
    "clients_percent": (("clients", "{}"),),
    "replication_lag_s": (("replicas_lost", "{} lost"),),
    "cpu_percent": (("ops_per_s", "{}"),),
    "round_trip_us": (("pong_age_s", "nodes heard {} ago"),),
}
"""What a figure is not read without, in words."""
NOTED_AS = {"clients_percent": "clients"}


class State(StrEnum):
    FINE = "fine"
    OVER = "over"
    UNKNOWN = "unknown"
    NONE = "none"
    """It has no such figure: a primary without replicas no lag."""


@dataclass(frozen=True, slots=True)
class Cell:
    metric: Metric
    state: State
    text: str = ""
    why: str = ""
    """What it is a figure of; of what is unknown, why."""
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    source: Source
    cells: Sequence[Cell]
    state: State
    said: str
    old: str = ""
    """Why none of its figures says anything about now."""

    @property
    def unknown(self) -> list[tuple[str, str]]:
        """What of it is not known, and why."""
        if self.source.gone_at is not None:
            return []
        if self.old:
            return [("All of it", self.old)]
        cells = [cell for cell in self.cells if cell.state is State.UNKNOWN]
        return [(cell.metric.label, cell.why) for cell in cells]

    @property
    def name(self) -> str:
        if self.source.kind == Kind.LIMITER:
            return "Limiter, all processes"
        return self.source.address or self.source.kind


def thresholds(metrics: Iterable[str]) -> dict[str, float]:
    """By metric, of those that have a rule in force."""
    found = AlertRule.objects.filter(metric__in=set(metrics), enabled=True, direction="above")
    return dict(found.order_by("-threshold").values_list("metric", "threshold"))


def rows(sources: Iterable[Source], limits: dict[str, float], now: datetime) -> list[Row]:
    """The worst first; what is gone comes last."""
    found = [_row(source, limits, now) for source in sources]
    order = [State.OVER, State.UNKNOWN, State.FINE]
    return sorted(
        found, key=lambda row: (row.source.gone_at is not None, order.index(row.state), row.name)
    )


def verdict(state: Watch, found: list[Row]) -> tuple[str, str]:
    """Its level, and what is to be said first. Green only where all that there is is known."""
    if state is Watch.NEVER:
        return "unknown", "Nothing has been looked at yet."
    if state is Watch.LATE:
        return "bad", "Nobody is looking: what is shown is old."
    there = [row for row in found if row.source.gone_at is None]
    over = [row for row in there if row.state is State.OVER]
    if over:
        named = ", ".join(f"{row.name}: {row.said}" for row in over[:3])
        more = f", and {len(over) - 3} more" if len(over) > 3 else ""
        return "bad", f"{named}{more}."
    partly = sum(row.state is State.UNKNOWN for row in there)
    if partly:
        return (
            "unknown",
            f"Nothing is wrong that is known; {partly} of {len(there)} partly unknown.",
        )
    return "fine", "Nothing to do."


def _row(source: Source, limits: dict[str, float], now: datetime) -> Row:
    reading = latest(source)
    old = _why_old(source, reading, now)
    cells = [
        _cell(METRICS[name], reading, source, limits.get(name), old)
        for name in COLUMNS[Kind(source.kind)]
    ]
    judged = any(name in limits for name in COLUMNS[Kind(source.kind)])
    state, said = _standing(source, cells, old, judged=judged)
    return Row(source, cells, state, said, old)


def _why_old(source: Source, reading: Reading | None, now: datetime) -> str:
    """Why its figures say nothing about now; empty where they do."""
    if source.gone_at is not None:
        return "it is gone"
    if source.error:
        return source.error
    if reading is None or source.answered_at is None:
        return "it has not been read yet"
    if now - source.answered_at > OLD:
        return "nobody has looked for over a minute"
    return ""


def _standing(
    source: Source, cells: Sequence[Cell], old: str, *, judged: bool
) -> tuple[State, str]:
    if source.gone_at is not None:
        return State.UNKNOWN, "gone"
    if source.error:
        return State.OVER, "does not answer"
    if old:
        return State.UNKNOWN, "unknown"
    over = [
        SHORT.get(cell.metric.name, cell.metric.label) for cell in cells if cell.state is State.OVER
    ]
    if over:
        return State.OVER, f"{', '.join(over)} too high"
    if any(cell.state is State.UNKNOWN for cell in cells):
        return State.UNKNOWN, "partly unknown"
    # Without a rule for any of its figures nobody has said what would be too much.
    return State.FINE, "fine" if judged else "answers"


def _cell(
    metric: Metric, reading: Reading | None, source: Source, limit: float | None, old: str
) -> Cell:
    if old or reading is None:
        return Cell(metric, State.UNKNOWN, "unknown", old)
    if metric.name not in reading.values:
        return Cell(metric, State.NONE)
    value = reading.values[metric.name]
    beside = ", ".join(
        words.format(shown(reading.values[name], METRICS[name].unit))
        for name, words in BESIDE.get(metric.name, ())
        if reading.values.get(name) is not None
    )
    if value is None:
        why = reading.unknown.get(metric.name, "it was not said")
        return Cell(metric, State.UNKNOWN, "unknown", why, beside)
    lost = metric.name == "replication_lag_s" and (reading.values.get("replicas_lost") or 0) > 0
    over = lost or (limit is not None and value > limit)
    why = str(source.notes.get(NOTED_AS.get(metric.name, metric.name), ""))
    state = State.OVER if over else State.FINE
    return Cell(metric, state, shown(value, metric.unit), why, beside)


def shown(value: float | None, unit: Unit) -> str:
    """``1.23 ms``, ``512 MiB``, ``12.3 %``, ``1,234/s``."""
    if value is None:
        return "unknown"
    if unit is Unit.BYTES:
        for name, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if abs(value) >= size:
                return f"{digits(value / size)} {name}"
        return f"{digits(value)} bytes"
    if unit is Unit.US:
        if abs(value) >= 1_000_000:
            return f"{digits(value / 1_000_000)} s"
        return f"{digits(value / 1000)} ms" if abs(value) >= 1_000 else f"{digits(value)} us"
    ending = {Unit.PERCENT: " %", Unit.S: " s", Unit.PER_S: "/s", Unit.COUNT: ""}[unit]
    return f"{digits(value)}{ending}"


def digits(value: float) -> str:
    """Three that mean something, with thousands; all of a whole number."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return {"0.00": "< 0.01", "100.0": "100", "10.00": "10"}.get(text, text)
