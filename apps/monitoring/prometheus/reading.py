"""The state of everything for one scrape. Whatever is away is left out: nothing raises, and
nothing waits longer than a call to Redis may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db import Error as DatabaseFailure
from django.utils import timezone

from apps.ratelimits.engine import Engine, get_engine
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.processes import ProcessStatus
from apps.ratelimits.storage.usage import Usage, UsageStore

from ..history import latest
from ..metrics import Kind
from ..models import Source
from .alerts import OpenAlert, open_alerts
from .families import SAMPLED

FRESH_S = 60.0
"""An older sample says nothing of now."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """``values`` without what is unknown, and without a sample's that is older than FRESH_S."""

    kind: Kind
    address: str
    role: str
    server: str
    up: bool
    age_s: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """None: it could not be had. ``names``: of the limits in force in this process, by id."""

    enforcing: bool
    usage: Usage | None = None
    ruleset_version: int | None = None
    processes: Sequence[ProcessStatus] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    sources: Sequence[SourceState] | None = None
    watch_age_s: float | None = None
    alerts: Sequence[OpenAlert] = ()


def read_state() -> State:
    engine = get_engine()
    enforcing = not engine.config.disabled
    usage, version, processes = _from_redis(engine)
    names: dict[int, str] = {}
    if enforcing:
        engine.start()
        names = {compiled.rule.id: compiled.rule.name for compiled in engine.index.rules}
    try:
        sources, watch_age_s = _sources(timezone.now())
        alerts = open_alerts()
    except DatabaseFailure:  # Away, or before the first ``migrate``.
        sources, watch_age_s, alerts = None, None, []
    return State(
        enforcing=enforcing,
        usage=usage,
        ruleset_version=version,
        processes=processes,
        names=names,
        sources=sources,
        watch_age_s=watch_age_s,
        alerts=alerts,
    )


def _from_redis(
    engine: Engine,
) -> tuple[Usage | None, int | None, Sequence[ProcessStatus] | None]:
    """After one that fails, nothing more is asked: a scrape waits for one timeout."""
    usage, version = None, None
    try:
        usage = UsageStore(engine.limiter.client, engine.limiter.keys).read()
        version = engine.store.version()
        return usage, version, engine.processes.alive()
    except Unavailable:
        return usage, version, None


def _sources(now: datetime) -> tuple[list[SourceState], float | None]:
    """Of what is sampled, and since when nothing was looked at; None where nothing ever was."""
    states, looked = [], None
    for source in Source.objects.filter(gone_at=None):
        looked = max(looked or source.looked_at, source.looked_at)
        if source.kind in SAMPLED:
            states.append(_state(source, now))
    return states, None if looked is None else max(0.0, (now - looked).total_seconds())


def _state(source: Source, now: datetime) -> SourceState:
    newest = latest(source)
    age_s = None if newest is None else max(0.0, (now - newest.at).total_seconds())
    values: dict[str, float] = {}
    if newest is not None and age_s is not None and age_s <= FRESH_S:
        values = {name: value for name, value in newest.values.items() if value is not None}
    # Known of one that says nothing, too.
    answered = source.answered_at or source.first_seen_at
    values["silent_s"] = max(0.0, (now - answered).total_seconds())
    return SourceState(
        kind=Kind(source.kind),
        address=source.address,
        role=source.role,
        server=source.server,
        up=not source.error and (now - source.looked_at).total_seconds() <= FRESH_S,
        age_s=age_s,
        values=values,
    )
