"""For whoever watches the limiter: what the database says of it, read and never changed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.apps import apps

from . import ruleset
from .models import RulesetVersion
from .storage.ruleset_store import encode

APP = "ratelimits"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What publishing has to do before it sends: how long reading and packing took."""

    version: int
    limits: int
    size_bytes: int
    read_s: float
    packed_s: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """A run of the clean-up. ``whole``: with it a pass through all keys came to its end."""

    started_at: datetime
    ended_at: datetime | None
    state: str
    whole: bool


def newest_version() -> int:
    """The version that was saved last; 0 before the first."""
    return RulesetVersion.current()


def load() -> Loaded:
    """Read and pack the limits as for publishing; nothing is published."""
    began_s = time.perf_counter()
    loaded = ruleset.load()
    read_s = time.perf_counter() - began_s
    size = len(encode(loaded))
    packed_s = time.perf_counter() - began_s - read_s
    return Loaded(loaded.version, len(loaded.rules), size, read_s, packed_s)


def last_sweeps() -> list[Sweep] | None:
    """The newest run of the clean-up and, where it is another, the newest that ended a pass
    through all keys. None where no clean-up is installed."""
    try:
        runs: Any = apps.get_model(APP, "SweepRun")
    except LookupError:
        return None
    rows = runs.objects.filter(dry_run=False).order_by("-started_at", "-pk")
    found = []
    for chosen in (rows, rows.filter(is_last=True, state="done")):
        row = chosen.values_list("started_at", "ended_at", "state", "is_last").first()
        if row is not None and Sweep(*row) not in found:
            found.append(Sweep(*row))
    return found
