"""SLOWLOG, LATENCY, CLIENT and INFO commandstats -> figures. Pure.

Of the slow log and of clients only numbers are kept: no command, no argument, no address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .cluster import pairs
from .rates import SCRIPTS_LE
from .taken import Said

SCRIPT = "evalsha"
"""What a check calls."""
WITHIN_S = 10


def of_commandstats(info: Mapping[str, Any]) -> Said:
    stats = info.get(f"cmdstat_{SCRIPT}") or {}
    counters = {
        "scripts": float(stats.get("calls", 0)),
        "script_us": float(stats.get("usec", 0)),
    }
    return Said(counters=counters)


def of_histogram(reply: Any) -> Said:
    """LATENCY HISTOGRAM: how many took how long, cumulatively, since the server started."""
    found = pairs(pairs(reply).get(SCRIPT, {})).get("histogram_usec", {})
    counters = {f"{SCRIPTS_LE}{bound}": float(number) for bound, number in pairs(found).items()}
    return Said(counters=counters)


def of_slowlog(entries: Iterable[Mapping[str, Any]], kept: int) -> Said:
    """The newest entry, and how many are kept."""
    newest = [float(entry["id"]) for entry in entries]
    counters = {"slow_kept": float(kept)}
    return Said(counters=counters | ({"slow_newest": max(newest)} if newest else {}))


def of_latest(events: Iterable[Any], threshold_ms: int | None, now_s: float) -> Said:
    """LATENCY LATEST: the worst event of the last ten seconds."""
    if not threshold_ms:
        why = "latency-monitor-threshold is 0, or may not be read: the server watches for nothing"
        return Said.nothing(["latency_event_us"], why)
    worst, what = 0.0, ""
    for name, at_s, latest_ms, *_ in events:
        if now_s - int(at_s) <= WITHIN_S and int(latest_ms) * 1000 > worst:
            worst, what = int(latest_ms) * 1000.0, _text(name)
    return Said({"latency_event_us": worst}, notes={"latency_event_us": what} if what else {})


def of_clients(clients: Iterable[Mapping[str, Any]]) -> Said:
    """CLIENT LIST: what waits to be sent to them, which is memory of the server."""
    return Said({"output_bytes": float(sum(int(one.get("omem", 0)) for one in clients))})


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
