"""The limiter over all processes: what each said of itself within three seconds, and what all of
them counted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from apps.ratelimits.engine import Engine
from apps.ratelimits.storage import usage as storage_usage
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.usage import Usage

from ..metrics import Kind
from .taken import Said, Taken

OF_USAGE = (
    "requests", "requests_per_s", "error_percent", "checks", "check_p50_us", "check_p99_us",
    "allowed_per_s", "denied_per_s", "degraded_per_s", "pool_waits_per_s",
)  # fmt: skip
OF_EACH = {"queue_length": "in_flight", "pool_in_use": "pool_in_use"}
SLOWEST = {"config_load_us": "config_load_us"}


def look(engine: Engine) -> Taken:
    """Raises nothing of the storage's."""
    clock_s = time.time()
    try:
        said = of_processes(engine.processes.alive())
        run_id = ""
        usage = read_usage(engine)
        if usage is None:
            said |= Said.nothing(OF_USAGE, "this version of the limiter does not count it")
        else:
            said |= of_usage(usage)
            run_id = f"{usage.since_s:.6f}"
    except Unavailable as error:
        return Taken(Kind.LIMITER, "", error=f"{type(error).__name__}: {error}"[:500])
    return Taken(Kind.LIMITER, "", said, clock_s, run_id=run_id)


def read_usage(engine: Engine) -> Usage | None:
    """Raises Unavailable."""
    store: Any = getattr(storage_usage, "UsageStore", None)
    if store is None:
        return None
    found: Usage = store(engine.limiter.client, engine.limiter.keys).read()
    return found


def of_processes(alive: Sequence[Any]) -> Said:
    """Each is a ProcessStatus. Of what they did the slowest counts, of what they hold the sum."""
    values: dict[str, float | None] = {
        "processes": float(len(alive)),
        "processes_failing": float(sum(one.failing for one in alive)),
    }
    said = Said(values)
    for name, part in (OF_EACH | SLOWEST).items():
        found = [float(getattr(one, part)) for one in alive if hasattr(one, part)]
        if len(found) < len(alive) or (not found and name in SLOWEST):
            why = "no process serves" if not alive else "a process does not say it"
            said |= Said.nothing([name], why)
        else:
            said |= Said({name: max(found) if name in SLOWEST else sum(found)})
    return said


def of_usage(usage: Usage) -> Said:
    counters = {
        name: float(getattr(usage, name))
        for name in ("requests", "errors", "allowed", "denied", "degraded", "pool_waits")
    }
    counters["checks"] = float(sum(usage.checks))
    counters |= {f"check_{place}": float(number) for place, number in enumerate(usage.checks)}
    return Said(counters=counters)
