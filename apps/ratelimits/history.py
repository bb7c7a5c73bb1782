"""What was done to the limits, read only: what changed, when, by whom. For pages of other apps.

Names of fields, never their values: an override says whom it is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import OuterRef, Subquery

from .models import Override, RateLimit

MOST = 100
"""Edits of each kind that one call returns, unless told otherwise."""
VERBS = {"+": "made", "~": "edited", "-": "deleted"}
NOT_EDITS = ("id", "created_at", "updated_at")


@dataclass(frozen=True, slots=True)
class Edit:
    """``model`` and ``pk`` name the row, and so the page of its history in the admin:
    ``reverse(f"admin:ratelimits_{edit.model}_history", args=[edit.pk])``.

    ``changed`` are the labels of the fields that an edit changed, for "made" and "deleted" none;
    groups are not among them. ``who`` is empty where it was a command.
    """

    at: datetime
    model: str
    pk: int
    name: str
    verb: str
    changed: tuple[str, ...]
    who: str

    def __str__(self) -> str:
        changed = f": {', '.join(self.changed)}" if self.changed else ""
        return f"{self.name} {self.verb}{changed}"


def edits(
    since: datetime, until: datetime, most: int = MOST, *, limit: int | None = None
) -> list[Edit]:
    """Of limits and overrides, the newest first, at most ``most`` of each. ``limit``: by its id, of
    that one and of the overrides that are its own.

    Who sees them may see the limits: ask for ``ratelimits.view_ratelimit`` before.
    """
    whose: dict[Any, dict[str, int]] = {RateLimit: {}, Override: {}}
    if limit is not None:
        whose = {RateLimit: {"id": limit}, Override: {"limit_id": limit}}
    found = [
        edit for model, own in whose.items() for edit in _edits(model, since, until, most, own)
    ]
    return sorted(found, key=lambda edit: edit.at, reverse=True)


def _edits(
    model: Any, since: datetime, until: datetime, most: int, whose: dict[str, int]
) -> list[Edit]:
    """Three queries at most: the entries with their authors, and those they followed."""
    history = model.history
    before = history.filter(id=OuterRef("id"), history_id__lt=OuterRef("history_id"))
    rows = history.filter(history_date__range=(since, until), **whose).select_related(
        "history_user"
    )
    rows = rows.annotate(before=Subquery(before.order_by("-history_id").values("history_id")[:1]))
    newest = list(rows.order_by("-history_date", "-history_id")[:most])
    known = {row.history_id: row for row in newest}
    wanted = {row.before for row in newest if row.history_type == "~"}.difference(known, {None})
    known |= history.filter(history_id__in=wanted).in_bulk()
    return [
        Edit(
            at=row.history_date,
            model=model._meta.model_name,
            pk=row.id,
            name=row.name if model is RateLimit else f"override {row.id}",
            verb=VERBS[row.history_type],
            changed=_changed(row, known.get(row.before)),
            who=str(row.history_user or ""),
        )
        for row in newest
    ]


def _changed(row: Any, before: Any) -> tuple[str, ...]:
    if row.history_type != "~" or before is None:
        return ()
    fields = [field for field in row.tracked_fields if field.name not in NOT_EDITS]
    return tuple(
        str(field.verbose_name)
        for field in fields
        if getattr(row, field.attname) != getattr(before, field.attname)
    )
