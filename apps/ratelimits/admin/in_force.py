"""What the list of limits says first: whether they are in force, and what Redis' absence cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.defaultfilters import pluralize
from django.utils import timezone

from ..engine import Engine, get_engine
from ..models import RulesetVersion
from ..storage.errors import Unavailable
from ..storage.failures import Kind, Outage
from ..storage.processes import LOST_MS, ProcessStatus

REMEMBERED_S = 3_600.0
"""An outage that is over is told for so long."""
SHORT_S = 5.0
"""A failure that has cost no request anything is told once it lasts so long."""


@dataclass(frozen=True, slots=True)
class Row:
    """A process, in words."""

    name: str
    started: datetime
    limits: str
    failures: str
    decided: str


@dataclass(frozen=True, slots=True)
class InForce:
    """``level``: fine, past (an outage that is over), late, or failing."""

    level: str
    text: str
    exact: str = ""
    rows: tuple[Row, ...] = ()


class TellsWhatIsInForce:
    """For the admin of the limits; only the theme shows it."""

    list_before_template = "ratelimits/in_force.html"

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        context = {"in_force": in_force(get_engine()), **(extra_context or {})}
        found: HttpResponseBase = super().changelist_view(request, context)  # type: ignore[misc]
        return found


def in_force(engine: Engine) -> InForce:
    """One call to Redis, which waits no longer than a check does, and one query."""
    try:
        alive = engine.processes.alive()
    except Unavailable as error:
        engine.limiter.failures.note(error)
        return _alone(engine.limiter.failures.outage)
    now_s = timezone.now().timestamp()
    return told(alive, RulesetVersion.current(), now_s)


def _alone(outage: Outage | None) -> InForce:
    """What this process knows by itself."""
    others = "What other processes do cannot be asked."
    if outage is None:
        return InForce("failing", f"Redis does not answer. {others}")
    text = f"{_failing([outage])}. In this process {_decided([outage])}. {others}"
    return InForce("failing", text, _exact([outage]))


def told(alive: Sequence[ProcessStatus], newest: int, now_s: float) -> InForce:
    """What the processes say of themselves, in a sentence; ``newest`` is the database's version."""
    rows = tuple(_row(status, newest) for status in alive)
    failing = [status.outage for status in alive if status.outage and _matters(status, now_s)]
    if failing:
        where = f"{len(failing)} of {_processes(len(alive))} affected"
        text = f"{_failing(failing)}: {_decided(failing)}; {where}."
        return InForce("failing", text, _exact(failing), rows)
    now = _now(alive, newest)
    past = [status.outage for status in alive if status.outage and _told_still(status, now_s)]
    if past:
        began = _clock(min(outage.since_s for outage in past))
        ended = _clock(max(outage.until_s or now_s for outage in past))
        text = f"Redis failed from {began} to {ended} ({_kinds(past)}): {_decided(past)}. {now}"
        return InForce("past", text, _exact(past), rows)
    late = not alive or any(status.version < newest for status in alive)
    return InForce("late" if late else "fine", now, "", rows)


def _now(alive: Sequence[ProcessStatus], newest: int) -> str:
    if not alive:
        return f"In force nowhere: no process has said within {LOST_MS // 1000} s that it serves."
    behind = sum(status.version < newest for status in alive)
    if behind:
        return f"The newest edit is not yet in force in {behind} of {_processes(len(alive))}."
    edited = f", as edited at {_clock(newest / 1_000_000)}" if newest else ""
    return f"In force in {_processes(len(alive))}{edited}."


def _matters(status: ProcessStatus, now_s: float) -> bool:
    outage = status.outage
    if outage is None or not status.failing:
        return False
    return outage.decided > 0 or now_s - outage.since_s >= SHORT_S


def _told_still(status: ProcessStatus, now_s: float) -> bool:
    """Nobody needs to hear of a call that failed and cost no request anything."""
    outage = status.outage
    if outage is None or outage.until_s is None or not outage.decided:
        return False
    return now_s - outage.until_s < REMEMBERED_S


def _failing(outages: Sequence[Outage]) -> str:
    since = _clock(min(outage.since_s for outage in outages))
    return f"Redis has been failing since {since} ({_kinds(outages)})"


def _kinds(outages: Iterable[Outage]) -> str:
    return ", ".join(dict.fromkeys(outage.kind.words for outage in outages))


def _decided(outages: Iterable[Outage]) -> str:
    number = sum(outage.decided for outage in outages)
    if not number:
        return "no request has been decided without it yet"
    were = pluralize(number, "was,were")
    return f"{number:,} request{pluralize(number)} {were} decided by each limit's own policy"


def _processes(number: int) -> str:
    return f"{number:,} process{pluralize(number, 'es')}"


def _clock(at_s: float) -> str:
    """A time of today; with its day where it is another's."""
    at = timezone.localtime(datetime.fromtimestamp(at_s, UTC))
    form = "%H:%M:%S" if at.date() == timezone.localdate() else "%d %b %Y, %H:%M:%S"
    return at.strftime(form)


def _exact(outages: Iterable[Outage]) -> str:
    began_s = min(outage.since_s for outage in outages)
    return timezone.localtime(datetime.fromtimestamp(began_s, UTC)).isoformat(sep=" ")


def _row(status: ProcessStatus, newest: int) -> Row:
    limits = "newest"
    if status.version < newest:
        limits = "none" if status.version < 0 else "older"
    failures = [f"{_words(kind)}: {number:,}" for kind, number in status.failures.items()]
    decided = [f"{policy}: {number:,}" for policy, number in status.decided.items()]
    return Row(
        name=f"{status.pid} on {status.host}",
        started=datetime.fromtimestamp(status.started_s, UTC),
        limits=limits,
        failures=", ".join(failures) or "none",
        decided=", ".join(decided) or "none",
    )


def _words(kind: str) -> str:
    return Kind(kind).words if kind in set(Kind) else kind
