"""Below the start page's numbers: the limits that deny most, and what was edited last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.urls import reverse

from apps.ratelimits import usage_history
from apps.ratelimits.history import Edit, last_edits
from apps.ratelimits.models import RateLimit

SPAN = timedelta(hours=1)
MOST = 5


@dataclass(frozen=True, slots=True)
class Denier:
    """A limit, and of the last hour how many it denied of how many it was asked about."""

    name: str
    denied: int
    asked: int
    link: str

    @property
    def percent(self) -> float:
        return 100 * self.denied / self.asked


@dataclass(frozen=True, slots=True)
class Edited:
    edit: Edit
    link: str


def deniers(now: datetime) -> list[Denier]:
    """The worst first; none that denied nothing, or is gone. Three queries."""
    found = usage_history.worst(now - SPAN, now, MOST)
    names = dict(RateLimit.objects.filter(pk__in=[pk for pk, _ in found]).values_list("pk", "name"))
    return [
        Denier(
            names[pk],
            totals.denied,
            totals.allowed + totals.denied + totals.would_deny,
            reverse("admin:ratelimits_ratelimit_usage", args=[pk]),
        )
        for pk, totals in found
        if pk in names
    ]


def edited() -> list[Edited]:
    """The newest first, each with the page of its history."""
    return [Edited(edit, _history_of(edit)) for edit in last_edits(MOST)]


def _history_of(edit: Edit) -> str:
    return reverse(f"admin:ratelimits_{edit.model}_history", args=[edit.pk])
