"""What else happened while a series was measured: deployments, notes, edits of limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.apps import apps
from django.urls import NoReverseMatch, reverse

from ..models import Annotation

MOST = 100
"""Of each kind, the newest: a line each on the chart."""
VERBS = {"+": "made", "~": "edited", "-": "deleted"}


@dataclass(frozen=True, slots=True)
class Happening:
    at: datetime
    kind: str
    text: str
    commit: str = ""
    who: str = ""
    link: str = ""


def happenings(since: datetime, until: datetime, *, limits: bool) -> list[Happening]:
    """The newest first. ``limits``: whether this person may see the limits' names."""
    rows = Annotation.objects.filter(at__range=(since, until)).select_related("made_by")
    found = [
        Happening(
            row.at,
            Annotation.Kind(row.kind).label,
            row.text,
            row.commit,
            str(row.made_by or ""),
        )
        for row in rows[:MOST]
    ]
    if limits:
        found += edits_of_limits(since, until)
    return sorted(found, key=lambda one: one.at, reverse=True)


def edits_of_limits(since: datetime, until: datetime) -> list[Happening]:
    """Read only, from the limiter's own history; by name, since its models are not ours to use."""
    found = []
    for model, name in (("ratelimit", "name"), ("override", "pk")):
        history = apps.get_model("ratelimits", f"Historical{model}")
        rows = history.objects.filter(history_date__range=(since, until))
        rows = rows.select_related("history_user").order_by("-history_date")
        for row in rows[:MOST]:
            named = row.name if name == "name" else f"override {row.id}"
            found.append(
                Happening(
                    row.history_date,
                    Annotation.Kind.LIMITS.label,
                    f"{named} {VERBS[row.history_type]}",
                    who=str(row.history_user or ""),
                    link=_link(f"admin:ratelimits_{model}_history", row.id),
                )
            )
    return found


def _link(name: str, pk: int) -> str:
    try:
        return reverse(name, args=[pk])
    except NoReverseMatch:
        return ""
