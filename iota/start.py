"""The admin's start page: is anything wrong right now? Four numbers (now.py), and a card for each
part that this person may see, with a link to where it is looked into. Green means that there is
nothing to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from apps.benchmarks.models import Regression
from apps.monitoring import alerting
from apps.monitoring.admin.standing import OF_A_NODE, OF_THE_LIMITER, rows, thresholds, verdict
from apps.monitoring.models import Diagnosis, Source
from apps.monitoring.turns import last_ended, watch_state
from apps.ratelimits.reading import last_sweeps

from . import now as just_now

SWEPT_WITHIN = timedelta(hours=6)
"""A pass begins each hour, and may take many runs."""
NAMED = 3


@dataclass(frozen=True, slots=True)
class Card:
    """``level``: fine, bad, or unknown, which is never fine. ``at``: of when that is."""

    title: str
    level: str
    text: str
    link: str
    at: datetime | None = None


def start_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """As unfold asks for it: the template's context."""
    numbers = []
    if request.user.has_perm("monitoring.view_source"):
        numbers = just_now.numbers(timezone.now())
    return {**context, "cards": list(_cards(request)), "numbers": numbers}


def _cards(request: HttpRequest) -> Iterator[Card]:
    for permission, make in CARDS:
        if request.user.has_perm(permission):
            yield make()


def _alerts() -> Card:
    link = reverse("admin:monitoring_alert_changelist")
    now, judged = timezone.now(), alerting.last_evaluated()
    if alerting.is_late(now):
        return Card("Alerts", "unknown", "Nobody judges the rules: no alert means nothing.", link)
    found = alerting.open_alerts()
    firing = [alert for alert in found if alert.state == alert.State.FIRING]
    if firing:
        named = ", ".join(str(alert) for alert in firing[:NAMED])
        more = f", and {len(firing) - NAMED} more" if len(firing) > NAMED else ""
        return Card("Alerts", "bad", f"{len(firing)} firing: {named}{more}.", link, judged)
    pending = f"{len(found)} pending. " if found else ""
    return Card("Alerts", "fine", f"{pending}Nothing fires.", link, judged)


def _health() -> Card:
    limits = thresholds({*OF_A_NODE, *OF_THE_LIMITER, "queue_length"})
    found = rows(Source.objects.all(), limits, timezone.now())
    level, text = verdict(watch_state(), found)
    return Card("Health", level, text, reverse("admin:monitoring_health"), last_ended())


def _clean_up() -> Card:
    link = reverse("admin:ratelimits_sweeprun_changelist")
    found = last_sweeps()
    if not found:
        return Card("Clean-up", "unknown", "It has never run.", link)
    newest = found[0]
    whole = [sweep.ended_at or sweep.started_at for sweep in found if sweep.whole]
    if newest.state in ("failed", "lost"):
        text = f"The last run {'has failed' if newest.state == 'failed' else 'was lost'}."
        return Card("Clean-up", "bad", text, link, newest.started_at)
    if not whole:
        return Card("Clean-up", "unknown", "No pass has come to its end yet.", link)
    at = whole[0]
    if timezone.now() - at > SWEPT_WITHIN:
        return Card("Clean-up", "bad", "It does not keep up: the last whole pass is old.", link, at)
    return Card("Clean-up", "fine", "It keeps up.", link, at)


def _doctor() -> Card:
    link = reverse("admin:monitoring_diagnosis_changelist")
    newest = Diagnosis.objects.filter(state=Diagnosis.State.DONE).first()
    if newest is None:
        return Card("Doctor", "unknown", "It has not been asked yet.", link)
    counts = newest.counts()
    said = [
        f"{counts[level]} {level}{'s' if counts[level] > 1 and level != 'unknown' else ''}"
        for level in ("error", "warning", "unknown")
        if counts[level]
    ]
    level = "bad" if counts["error"] or counts["warning"] else "unknown" if said else "fine"
    text = f"{', '.join(said)}." if said else "Nothing to mend."
    return Card("Doctor", level, text, link, newest.ended_at)


def _regressions() -> Card:
    link = reverse("admin:benchmarks_regression_changelist")
    found = Regression.objects.filter(better=False)
    confirmed = found.filter(state=Regression.State.CONFIRMED).count()
    suspected = found.filter(state=Regression.State.SUSPECTED).count()
    if confirmed:
        text = f"{confirmed} confirmed regression{'s' if confirmed > 1 else ''} to be looked at."
        return Card("Benchmarks", "bad", text, link)
    if suspected:
        return Card("Benchmarks", "unknown", f"{suspected} suspected, being repeated.", link)
    return Card("Benchmarks", "fine", "No open regression.", link)


CARDS: tuple[tuple[str, Callable[[], Card]], ...] = (
    ("monitoring.view_alert", _alerts),
    ("monitoring.view_source", _health),
    ("monitoring.view_diagnosis", _doctor),
    ("ratelimits.view_sweeprun", _clean_up),
    ("benchmarks.view_regression", _regressions),
)
"""Whose each is."""
