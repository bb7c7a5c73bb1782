"""What is told beside the value of an alert, since the value alone misleads."""

from __future__ import annotations

from .history import latest
from .metrics import METRICS
from .models import Alert
from .wording import of_metric

BESIDE = {
    "memory_percent": ("memory_bytes", "evicted_per_s"),
    "clients_percent": ("clients",),
    "replication_lag_s": ("replicas_lost",),
    "check_p99_us": ("check_p50_us", "checks"),
    "error_percent": ("requests",),
}


def beside(alert: Alert) -> str:
    """``Keys evicted 12/s``, of the newest sample; and what the collector says of the value, such
    as that it is a part of the machine's memory where the server has no bound of its own."""
    if alert.source is None:
        return ""
    reading = latest(alert.source)
    if reading is None:
        return ""
    told = [
        f"{METRICS[name].label} {of_metric(reading.values[name], name)}"
        for name in BESIDE.get(alert.metric, ())
        if reading.values.get(name) is not None
    ]
    note = alert.source.notes.get(alert.metric, "")
    return ", ".join([*told, *([str(note)] if note else [])])
