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
    """A run of the clean-up."""

    started_at: datetime
    ended_at: datetime | None
    state: str


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


def sweeps(number: int) -> list[Sweep] | None:
    """The last runs of the clean-up, the newest first; None where none is installed."""
    try:
        runs: Any = apps.get_model(APP, "SweepRun")
    except LookupError:
        return None
    rows = runs.objects.order_by("-started_at").values_list("started_at", "ended_at", "state")
    return [Sweep(*row) for row in rows[:number]]
