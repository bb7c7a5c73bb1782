"""What else happened while a series was measured: deployments, notes, edits of limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.urls import NoReverseMatch, reverse

from apps.ratelimits import history

from ..models import Annotation

MOST = 100
"""Of each kind, the newest: a line each on the chart."""


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
    return [
        Happening(
            edit.at,
            Annotation.Kind.LIMITS.label,
            f"{edit} ({edit.reason})" if edit.reason else str(edit),
            who=edit.who,
            link=_link(f"admin:ratelimits_{edit.model}_history", edit.pk),
        )
        for edit in history.edits(since, until, MOST)
    ]


def _link(name: str, pk: int) -> str:
    try:
        return reverse(name, args=[pk])
    except NoReverseMatch:
        return ""
