"""Where in its life a limit is, in words: its schedule, its steps, and what comes next.

Draft, shadow, canary, enforce: at each step more is at stake. A schedule lies across them: what is
in force is so between its two moments, and by each process's own clock, without an edit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from django.db.models import Q
from django.utils.formats import date_format
from django.utils.timesince import timesince, timeuntil
from django.utils.timezone import localtime

from .models import RateLimit
from .policy.rules import IN_FORCE, CountedBy
from .wording import percent

Mode = RateLimit.Mode
STEPS = (Mode.DRAFT, Mode.SHADOW, Mode.CANARY, Mode.ENFORCE)
SHORT_S = 60


class Phase(StrEnum):
    """Of a limit that is in force by its mode."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    ENDED = "ended"


def phase(limit: RateLimit, now: datetime) -> Phase | None:
    """None where it is not in force, whatever its schedule."""
    return moment(limit, now) if limit.mode in IN_FORCE else None


def moment(limit: RateLimit, now: datetime) -> Phase:
    """By its schedule alone. As policy/matching.py decides: in force from the first moment on, and
    no longer at the last one."""
    if limit.active_until is not None and limit.active_until <= now:
        return Phase.ENDED
    if limit.active_from is not None and limit.active_from > now:
        return Phase.SCHEDULED
    return Phase.RUNNING


def in_phase(chosen: Phase, now: datetime) -> Q:
    """The rows of which ``phase`` says so."""
    ended = Q(active_until__isnull=False, active_until__lte=now)
    ahead = Q(active_from__isnull=False, active_from__gt=now)
    by_time = {Phase.ENDED: ended, Phase.SCHEDULED: ahead & ~ended, Phase.RUNNING: ~ended & ~ahead}
    return Q(mode__in=IN_FORCE) & by_time[chosen]


def schedule(limit: RateLimit, now: datetime) -> str:
    """``starts in 3 hours``, ``ends in 2 days``, ``ended 5 minutes ago``; empty without one."""
    begin, end = limit.active_from, limit.active_until
    if end is not None and end <= now:
        return f"ended {_ago(end, now)}"
    if begin is not None and begin > now:
        return f"starts {_ahead(begin, now)}" + (f", for {_lasts(begin, end)}" if end else "")
    if end is not None:
        return f"ends {_ahead(end, now)}"
    return f"started {_ago(begin, now)}" if begin is not None else ""


def exact(limit: RateLimit) -> str:
    """The schedule's moments, in the site's time zone; empty without one."""
    begin, end = (
        date_format(localtime(at), "DATETIME_FORMAT") if at else ""
        for at in (limit.active_from, limit.active_until)
    )
    if begin and end:
        return f"from {begin} until {end}"
    return f"from {begin}" if begin else f"until {end}" if end else ""


def in_words(limit: RateLimit, now: datetime) -> str:
    """A sentence on the schedule; empty without one."""
    if not (said := schedule(limit, now)):
        return ""
    if limit.mode not in IN_FORCE:
        # A draft's schedule says nothing of what is.
        return f"Scheduled {exact(limit)}, once it is in force by its mode."
    return f"{said[0].upper()}{said[1:]} ({exact(limit)})."


def _ahead(at: datetime, now: datetime) -> str:
    if (at - now).total_seconds() < SHORT_S:
        return "in less than a minute"
    return f"in {timeuntil(at, now, depth=1)}"


def _ago(at: datetime, now: datetime) -> str:
    if (now - at).total_seconds() < SHORT_S:
        return "less than a minute ago"
    return f"{timesince(at, now, depth=1)} ago"


def _lasts(begin: datetime, end: datetime) -> str:
    if (end - begin).total_seconds() < SHORT_S:
        return "less than a minute"
    return timesince(begin, end, depth=1)


@dataclass(frozen=True, slots=True)
class Step:
    """``place``: done, here, next or later; what the strip shows by a sign, not by colour alone."""

    mode: Mode
    label: str
    about: str
    place: str

    @property
    def sign(self) -> str:
        return {"done": "✓", "here": "●", "next": "→"}.get(self.place, "○")

    @property
    def said(self) -> str:
        """For whoever does not see it."""
        return {"done": "before", "here": "now", "next": "next"}.get(self.place, "later")


@dataclass(frozen=True, slots=True)
class Life:
    """``next``: what to do, in a sentence. ``schedule``: in a sentence, or empty."""

    steps: tuple[Step, ...]
    next: str
    schedule: str


def life(limit: RateLimit, now: datetime) -> Life:
    """For the strip above a limit's form."""
    mode = Mode(limit.mode)
    steps = [step for step in STEPS if step is not Mode.CANARY or _may_be_canary(limit)]
    at = steps.index(mode) if mode in steps else -1
    if mode is Mode.OFF:
        at = 0  # As far as a draft: it may be tried again.
    places = ["done"] * at + ["here"] + ["next"] + ["later"] * len(steps)
    if mode is Mode.OFF:
        places[0] = "done"
    made = [
        Step(step, step.label, _about(step, limit), place)
        for step, place in zip(steps, places, strict=False)
    ]
    return Life(tuple(made), _next(limit, now), in_words(limit, now))


def _may_be_canary(limit: RateLimit) -> bool:
    return limit.mode == Mode.CANARY or CountedBy.EVERYONE not in limit.as_counted_by()


def _about(step: Mode, limit: RateLimit) -> str:
    if step is Mode.CANARY:
        return f"denies for {percent(limit)}"
    return {
        Mode.DRAFT: "not in force",
        Mode.SHADOW: "only counts",
        Mode.ENFORCE: "denies for all",
    }[step]


def _next(limit: RateLimit, now: datetime) -> str:
    mode = Mode(limit.mode)
    if phase(limit, now) is Phase.ENDED:
        return "It is over: choose a later end to use it again, or switch it off."
    if mode is Mode.DRAFT:
        return "Next: shadow. It counts then, and denies nobody."
    if mode is Mode.OFF:
        return "Switched off. To begin again: shadow, which counts and denies nobody."
    if mode is Mode.SHADOW:
        if not _may_be_canary(limit):
            return (
                "Next: enforce, once what it would have denied is what it should. Everyone is one "
                "count here, so there is no canary."
            )
        return (
            "Next: canary, once what it would have denied is what it should. It is enforced then "
            "for a small part of the clients."
        )
    if mode is Mode.CANARY:
        return (
            f"Next: a larger percentage than {percent(limit)}, which only adds clients, or "
            "enforce, for everyone."
        )
    return (
        "It is enforced for everyone. Try a tighter quota in shadow first, as a limit of its own."
    )
