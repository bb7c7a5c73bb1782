"""Edits of limits, beside the figures that they may explain: read only, by name, since the
limiter's models are not ours to use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.apps import apps

MOST = 50
VERBS = {"+": "made", "~": "edited", "-": "deleted"}


@dataclass(frozen=True, slots=True)
class Edit:
    at: datetime
    text: str
    who: str


def edits(since: datetime, until: datetime) -> list[Edit]:
    """The newest first."""
    history = apps.get_model("ratelimits", "HistoricalRateLimit")
    rows = history._default_manager.filter(history_date__range=(since, until))
    return [
        Edit(row.history_date, f"{row.name} {VERBS[row.history_type]}", str(row.history_user or ""))
        for row in rows.select_related("history_user").order_by("-history_date")[:MOST]
    ]
