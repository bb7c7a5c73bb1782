"""The limiter over all processes: what each said of itself within three seconds, and what all of
them counted."""

from __future__ import annotations

import time
from collections.abc import Sequence

from apps.ratelimits.engine import Engine
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.processes import ProcessStatus
from apps.ratelimits.storage.usage import Usage

from ..metrics import Kind
from .taken import Said, Taken

OF_EACH = (("queue_length", "in_flight"), ("pool_in_use", "pool_in_use"))
SLOWEST = (("config_load_us", "config_load_us"),)


def look(engine: Engine) -> Taken:
    """Raises nothing of the storage's."""
    clock_s = time.time()
    try:
        usage = engine.usage.read()
        said = of_processes(engine.processes.alive()) | of_usage(usage)
    except Unavailable as error:
        return Taken(Kind.LIMITER, "", error=f"{type(error).__name__}: {error}"[:500])
    return Taken(Kind.LIMITER, "", said, clock_s, run_id=f"{usage.since_s:.6f}")


def of_processes(alive: Sequence[ProcessStatus]) -> Said:
    """Of what they did the slowest counts, of what they hold the sum."""
    values: dict[str, float | None] = {
        "processes": float(len(alive)),
        "processes_failing": float(sum(one.failing for one in alive)),
    }
    values |= {name: float(sum(getattr(one, part) for one in alive)) for name, part in OF_EACH}
    said = Said(values)
    if not alive:
        return said | Said.nothing([name for name, _ in SLOWEST], "no process serves")
    return said | Said(
        {name: float(max(getattr(one, part) for one in alive)) for name, part in SLOWEST}
    )


def of_usage(usage: Usage) -> Said:
    counters = {
        name: float(getattr(usage, name))
        for name in ("requests", "errors", "allowed", "denied", "degraded", "pool_waits")
    }
    counters["checks"] = float(sum(usage.checks))
    counters |= {f"check_{place}": float(number) for place, number in enumerate(usage.checks)}
    return Said(counters=counters)
