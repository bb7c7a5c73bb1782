"""What was done to the limits, read only: what changed, when, by whom, why. For pages of other
apps.

Names of fields, never their values: an override says whom it is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .diff import NOT_EDITS, followed, versions, with_before
from .models import Override, RateLimit

MOST = 100
"""Edits of each kind that one call returns, unless told otherwise."""
VERBS = {"+": "made", "~": "edited", "-": "deleted"}


@dataclass(frozen=True, slots=True)
class Edit:
    """``model`` and ``pk`` name the row, and so the page of its history in the admin:
    ``reverse(f"admin:ratelimits_{edit.model}_history", args=[edit.pk])``.

    ``changed`` are the labels of the fields that an edit changed, for "made" and "deleted" none.
    ``who`` is empty where it was a command; ``reason`` where none was given.
    """

    at: datetime
    model: str
    pk: int
    name: str
    verb: str
    changed: tuple[str, ...]
    who: str
    reason: str = ""

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


def last_edits(most: int = 5) -> list[Edit]:
    """The newest of limits and overrides together, for a card; for whoever may see the limits."""
    found = [edit for model in (RateLimit, Override) for edit in _read(model, {}, most)]
    return sorted(found, key=lambda edit: edit.at, reverse=True)[:most]


def _edits(
    model: Any, since: datetime, until: datetime, most: int, whose: dict[str, int]
) -> list[Edit]:
    return _read(model, {"history_date__range": (since, until), **whose}, most)


def _read(model: Any, which: dict[str, Any], most: int) -> list[Edit]:
    """Three queries at most: the entries with their authors, those they followed, their groups."""
    rows = with_before(model.history.filter(**which)).select_related("history_user")
    newest = list(rows.order_by("-history_date", "-history_id")[:most])
    known = versions(followed(newest).values())
    return [
        Edit(
            at=row.history_date,
            model=model._meta.model_name,
            pk=row.id,
            name=row.name if model is RateLimit else f"override {row.id}",
            verb=VERBS[row.history_type],
            changed=_changed(known[row.history_id], known.get(row.before)),
            who=str(row.history_user or ""),
            reason=row.history_change_reason or "",
        )
        for row in newest
    ]


def _changed(after: Any, before: Any) -> tuple[str, ...]:
    row = after.row
    if row.history_type != "~" or before is None:
        return ()
    fields = [field for field in row.tracked_fields if field.name not in NOT_EDITS]
    changed = [
        str(field.verbose_name)
        for field in fields
        if getattr(row, field.attname) != getattr(before.row, field.attname)
    ]
    return (*changed, *(("groups",) if before.groups != after.groups else ()))
