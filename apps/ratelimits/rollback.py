"""Back to what a limit or an override was: planned first, so that it can be shown, then carried out
as a change of its own. What was deleted comes back under its old number, and so with its history;
what it had counted does not, since the clean-up may have removed a part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.utils.formats import date_format
from django.utils.timezone import localtime

from . import diff
from .diff import Difference, Version
from .models import RateLimit
from .models.entries import REASON_CHARS, in_last_entry

KEPT = ("created_at", "updated_at", "epoch")
"""Of what is there now; an earlier epoch would bring back what was counted in it."""


@dataclass(frozen=True, slots=True)
class RollBack:
    """``now`` is None where it is deleted. ``row`` is as it would be saved, and not saved;
    ``newest`` is the number of the entry that it would follow. ``lost_groups``: so many that it
    was about are no longer there."""

    entry: Any
    now: Any
    row: Any
    groups: Sequence[Group]
    lost_groups: int
    newest: int
    differences: tuple[Difference, ...]

    @property
    def starts_afresh(self) -> bool:
        return isinstance(self.row, RateLimit) and (
            self.now is None or self.now.epoch != self.row.epoch
        )

    def check(self) -> None:
        """Raises ValidationError where it could not be saved as it was."""
        self.row.clean_fields()  # First: the rest looks at whom an override is about.
        self.row.full_clean()


def plan(model: Any, pk: int, number: int) -> RollBack:
    """Back to the entry with this number. Raises the history's DoesNotExist."""
    entries = diff.with_before(model.history.filter(id=pk))
    entry = entries.get(history_id=number)
    newest = entries.first()
    then = diff.versions([entry])[number]
    groups = list(Group.objects.filter(pk__in=then.groups))
    now = model.objects.filter(pk=pk).first()
    row = copy(now) if now is not None else model()
    row._state = copy(row._state)
    for field in model._meta.concrete_fields:
        if field.name not in KEPT:
            setattr(row, field.attname, getattr(entry, field.attname))
    if isinstance(row, RateLimit):
        if now is None:
            row.epoch = newest.epoch + 1
        elif now.algorithm != row.algorithm:
            row.epoch += 1
    return RollBack(
        entry=entry,
        now=now,
        row=row,
        groups=groups,
        lost_groups=len(then.groups) - len(groups),
        newest=newest.history_id,
        differences=_differences(model, now, row, groups),
    )


def _differences(model: Any, now: Any, row: Any, groups: Sequence[Group]) -> tuple[Difference, ...]:
    if now is None:
        return ()
    before = diff.version(now)
    after = Version(row, tuple(group.pk for group in groups))
    return diff.Words(model, (before, after)).differences(before, after)


def carry_out(planned: RollBack, user: Any, why: str = "") -> Any:
    """Save it, as a change of this user's. Returns the row."""
    row = planned.row
    row._history_user, row._change_reason = user, reason(planned, why)
    with transaction.atomic():
        row.save(force_insert=planned.now is None)
        if isinstance(row, RateLimit):
            with in_last_entry(row):
                row.groups.set(planned.groups)
    return row


def reason(planned: RollBack, why: str = "") -> str:
    """As the history tells it."""
    when = date_format(localtime(planned.entry.history_date), "j M Y, H:i:s")
    back = "Brought back as of" if planned.now is None else "Rolled back to the change of"
    said = f"{back} {when}"
    return (f"{said}: {why}" if why else said)[:REASON_CHARS]
