"""Edits of limits, beside the figures that they may explain: read only, by name, since the
limiter's models are not ours to use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

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
        Edit(row.history_date, _text(row), str(row.history_user or ""))
        for row in rows.select_related("history_user").order_by("-history_date")[:MOST]
    ]


def _text(row: Any) -> str:
    why = f" ({row.history_change_reason})" if row.history_change_reason else ""
    return f"{row.name} {VERBS[row.history_type]}{why}"
