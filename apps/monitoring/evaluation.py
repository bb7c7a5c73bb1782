"""What an alert rule makes of one reading: ok, pending, firing, resolved, or no data.

Pure, the clock passed in. Time is that of the samples: a rule that asks for 300 s is kept by
readings that span 300 s, however many they are. What is not known is never fine: a reading that is
missing, old, unknown or made of too few events is no news, and a state without news for
``STALE_S`` is "no data", unless it is firing: what was seen burning burns until somebody has seen
that it does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

STALE_S = 40
"""Without a value so long, nothing is known: four samples."""
QUIET_S = 900
"""Firing, and so long too few events to tell: it has passed with them."""


class Phase(StrEnum):
    NO_DATA = "no data"
    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"


class Event(StrEnum):
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"
    PASSED = "passed"
    """Pending has ended without firing."""


class Direction(StrEnum):
    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True, slots=True)
class Rule:
    """``clear`` is where a firing alert is over, None for the threshold itself; ``at_least`` how
    many events a value must be made of."""

    threshold: float
    direction: Direction = Direction.ABOVE
    for_s: float = 0
    clear: float | None = None
    at_least: float = 0

    def breached(self, value: float) -> bool:
        if self.direction is Direction.ABOVE:
            return value > self.threshold
        return value < self.threshold

    def cleared(self, value: float) -> bool:
        clear = self.threshold if self.clear is None else self.clear
        return value <= clear if self.direction is Direction.ABOVE else value >= clear


@dataclass(frozen=True, slots=True)
class Reading:
    """``value`` None: unknown, or made of nothing where ``evidence`` is 0. ``evidence``: of how
    many events it is made, None: unknown, or of none."""

    at: datetime
    value: float | None
    evidence: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """``since`` this phase lasts; ``pending_since`` the condition is seen to hold; ``read_at`` is
    the time of the newest reading taken into account, ``known_at`` that of the newest with a
    value; ``quiet_since`` there were too few events."""

    phase: Phase = Phase.NO_DATA
    since: datetime | None = None
    pending_since: datetime | None = None
    read_at: datetime | None = None
    known_at: datetime | None = None
    quiet_since: datetime | None = None
    value: float | None = None


def step(
    state: State, rule: Rule, reading: Reading | None, now: datetime
) -> tuple[State, list[Event]]:
    """The state at ``now``, and what has happened, in order. The same reading twice is one."""
    state = _not_after(state, now)
    events: list[Event] = []
    if reading is not None and _is_news(reading, state, now):
        # Of another host's clock, or of this one before it was set back a little.
        reading = replace(reading, at=min(reading.at, now))
        state = _interrupted(state, reading.at, events)
        state = _take(state, rule, reading, events)
    return _interrupted(state, now, events), events


def _is_news(reading: Reading, state: State, now: datetime) -> bool:
    """Not one that was seen, is old, or lies in the future: the clock was set back since."""
    if abs(_seconds(reading.at, now)) > STALE_S:
        return False
    return state.read_at is None or reading.at > state.read_at


def _not_after(state: State, now: datetime) -> State:
    """Where the clock was set back, what was noted begins now: a duration is never too long."""

    def bound(at: datetime | None) -> datetime | None:
        return at if at is None or at <= now else now

    # A reading later than now is one that was seen by the other clock: the next is news.
    read_at = state.read_at
    if read_at is not None and read_at > now:
        read_at = None if _seconds(now, read_at) > STALE_S else now
    return replace(
        state,
        since=bound(state.since),
        pending_since=bound(state.pending_since),
        read_at=read_at,
        known_at=bound(state.known_at),
        quiet_since=bound(state.quiet_since),
    )


def _interrupted(state: State, at: datetime, events: list[Event]) -> State:
    """``state`` where nothing was known until ``at``."""
    if state.phase in (Phase.FIRING, Phase.NO_DATA):
        return state if state.phase is Phase.FIRING else replace(state, since=state.since or at)
    if state.known_at is not None and _seconds(state.known_at, at) <= STALE_S:
        return state
    if state.phase is Phase.PENDING:
        events.append(Event.PASSED)
    since = at if state.known_at is None else state.known_at + timedelta(seconds=STALE_S)
    return replace(state, phase=Phase.NO_DATA, since=since, pending_since=None, value=None)


def _take(state: State, rule: Rule, reading: Reading, events: list[Event]) -> State:
    state = replace(state, read_at=reading.at)
    if reading.evidence is not None and reading.evidence < max(rule.at_least, 1):
        return _quiet(state, reading.at, events)
    if reading.value is None or (rule.at_least and reading.evidence is None):
        return replace(state, quiet_since=None)
    state = replace(state, known_at=reading.at, quiet_since=None, value=reading.value)
    if state.phase is Phase.FIRING:
        if rule.cleared(reading.value):
            events.append(Event.RESOLVED)
            return replace(state, phase=Phase.OK, since=reading.at, pending_since=None)
        return state
    if not rule.breached(reading.value):
        if state.phase is Phase.PENDING:
            events.append(Event.PASSED)
        since = state.since if state.phase is Phase.OK else reading.at
        return replace(state, phase=Phase.OK, since=since, pending_since=None)
    if state.phase is not Phase.PENDING:
        events.append(Event.PENDING)
        state = replace(state, phase=Phase.PENDING, since=reading.at, pending_since=reading.at)
    if _seconds(state.pending_since or reading.at, reading.at) >= rule.for_s:
        events.append(Event.FIRING)
        state = replace(state, phase=Phase.FIRING, since=reading.at)
    return state


def _quiet(state: State, at: datetime, events: list[Event]) -> State:
    """Too few events to tell: no news, until a fire has had nothing to burn for long."""
    quiet_since = state.quiet_since or at
    if state.phase is Phase.FIRING and _seconds(quiet_since, at) >= QUIET_S:
        events.append(Event.RESOLVED)
        return replace(
            state,
            phase=Phase.NO_DATA,
            since=at,
            pending_since=None,
            quiet_since=quiet_since,
            value=None,
        )
    return replace(state, quiet_since=quiet_since)


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()
