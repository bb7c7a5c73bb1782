"""Every family of ``/metrics``: its name, what it is, its labels.

Pure. What the watch samples of servers and of Celery's queues is exposed under names that are made
of theirs (``metrics.py``), in base units: a metric that is added there is exposed. Labels are
bounded: limits by their names, MOST_LIMITS of them; nodes; rules. Never who was counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..metrics import METRICS, Kind, Metric, Unit

MOST_LIMITS = 200
"""With series of their own, the oldest first; all others are summed as OTHER."""
OTHER = "other"

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    """As a query writes it: with ``_total``; of a histogram without ``_bucket``."""
    kind: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names that a query can use."""
        if self.kind == HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


_SUFFIXES = {
    Unit.COUNT: ("", ""),
    Unit.PER_S: ("_per_s", "_per_second"),
    Unit.PERCENT: ("_percent", "_ratio"),
    Unit.BYTES: ("", ""),
    Unit.US: ("_us", "_seconds"),
    Unit.S: ("_s", "_seconds"),
}
SCALES = {Unit.PERCENT: 0.01, Unit.US: 1e-6}
"""What a value of the watch is multiplied by; 1 where nothing is said."""


def sampled_name(kind: Kind, metric: Metric) -> str:
    """``cpu_percent`` of a node is ``iota_node_cpu_ratio``."""
    ours, theirs = _SUFFIXES[metric.unit]
    return f"iota_{kind.value}_{metric.name.removesuffix(ours)}{theirs}"


def scaled(metric: Metric, value: float) -> float:
    return value * SCALES.get(metric.unit, 1)


SAMPLED = (Kind.NODE, Kind.BROKER)
"""What the limiter says of itself is read from Redis at each scrape, and not sampled."""


def _sampled() -> Iterator[Family]:
    for kind in SAMPLED:
        for metric in METRICS.values():
            if kind in metric.kinds:
                unit = {Unit.PERCENT: " (1 is all of it)", Unit.PER_S: ", per second"}
                text = f"{metric.label}{unit.get(metric.unit, '')}."
                yield Family(sampled_name(kind, metric), GAUGE, text, (kind.value,))


_OWN = (
    Family("iota_up", GAUGE, "1 where Redis gave the limiter's counters, else 0."),
    Family("iota_database_up", GAUGE, "1 where the database gave the watch's samples, else 0."),
    Family("iota_enforcing", GAUGE, "0 while IOTA_DISABLED switches every limit off."),
    Family(
        "iota_counting_since_timestamp_seconds",
        GAUGE,
        "When the counters began: later than before where Redis has lost them.",
    ),
    Family("iota_requests_total", COUNTER, "Requests that the middleware answered."),
    Family("iota_request_errors_total", COUNTER, "Of these, 5xx that no limit's policy asked for."),
    Family("iota_decisions_total", COUNTER, "Requests that limits decided.", ("decision",)),
    Family("iota_decisions_degraded_total", COUNTER, "Of these, decided by policy, without Redis."),
    Family("iota_check_duration_seconds", HISTOGRAM, "How long a check of all limits took."),
    Family("iota_pool_waits_total", COUNTER, "Checks that waited for a connection to Redis."),
    Family("iota_limit_verdicts_total", COUNTER, "Verdicts of each limit.", ("limit", "verdict")),
    Family(
        "iota_limit_degraded_total",
        COUNTER,
        "Verdicts that a limit's failure policy gave; they are among the others.",
        ("limit",),
    ),
    Family("iota_limits", GAUGE, "Limits in force in the process that was asked."),
    Family("iota_ruleset_version", GAUGE, "Version of the published limits."),
    Family(
        "iota_config_load_seconds",
        GAUGE,
        "The slowest process's reading of its configuration, at its start.",
    ),
    Family("iota_processes", GAUGE, "Processes that serve."),
    Family("iota_processes_failing", GAUGE, "Of these, without Redis just now."),
    Family("iota_processes_behind", GAUGE, "Of these, on an older version of the limits."),
    Family("iota_requests_in_flight", GAUGE, "Requests being answered, over all processes."),
    Family("iota_pool_in_use", GAUGE, "Connections to Redis in use, over all processes."),
    Family(
        "iota_watch_age_seconds",
        GAUGE,
        "Since the watch last looked at anything: it is dead where this grows.",
    ),
    Family(
        "iota_source_up",
        GAUGE,
        "1 where a server or a broker answered when the watch last looked.",
        ("kind", "source"),
    ),
    Family(
        "iota_source_age_seconds",
        GAUGE,
        "Since its newest sample. Older ones than a minute have no values below.",
        ("kind", "source"),
    ),
    Family("iota_node_info", GAUGE, "1, with what a server is.", ("node", "role", "server")),
    Family(
        "iota_alerts",
        GAUGE,
        "1 for each alert that is pending or firing.",
        ("rule", "severity", "state", "source"),
    ),
)

FAMILIES = {family.name: family for family in (*_OWN, *_sampled())}
SERIES = frozenset(name for family in FAMILIES.values() for name in family.series)


def as_markdown() -> str:
    """The table of docs/reference/metrics.md."""
    rows = ["| name | kind | labels | what it says |", "| --- | --- | --- | --- |"]
    for family in FAMILIES.values():
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
