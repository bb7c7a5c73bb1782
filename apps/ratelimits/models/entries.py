"""An edit is one entry of the history, with the reason and the groups that belong to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import models
from simple_history.models import HistoricalRecords

if TYPE_CHECKING:
    from .limit import RateLimit

REASON_CHARS = 200
AT_ONCE = 500
"""So many rows per query: databases bound what one query may name."""


def records(**options: Any) -> Any:
    """HistoricalRecords whose entries have room for a reason in a sentence."""
    reason = models.CharField(max_length=REASON_CHARS, null=True)
    return HistoricalRecords(history_change_reason_field=reason, **options)


@contextmanager
def in_last_entry(limit: RateLimit) -> Iterator[None]:
    """What is done to the groups within belongs to the entry that the save before it made; by
    itself each step of it would be an entry of its own."""
    limit.skip_history_when_saving = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del limit.skip_history_when_saving  # type: ignore[attr-defined]
    keep_groups(limit.history.all()[:1])


class EntriesAtOnce:
    """For many rows of one model in one transaction: each has one entry, with its groups as they
    are when ``write`` is called, which writes all of them together."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._saved: dict[bool, list[Any]] = {True: [], False: []}

    def save(self, row: Any) -> None:
        new = row._state.adding
        # Until it is written: also while its groups are edited.
        row.skip_history_when_saving = True
        row.save(force_insert=new)
        self._saved[new].append(row)

    def write(self) -> None:
        for new, rows in self._saved.items():
            for row in rows:
                del row.skip_history_when_saving
            for first in range(0, len(rows), AT_ONCE):
                saved = rows[first : first + AT_ONCE]
                entries = self._model.history.bulk_history_create(saved, update=not new)
                if entries and self._model._meta.many_to_many:
                    keep_groups(entries)
            rows.clear()


def keep_groups(entries: Iterable[Any]) -> None:
    """Write into entries of limits, of which each is its limit's newest, the groups of now."""
    found = {entry.id: entry for entry in entries}
    for limits in {entry.instance_type for entry in found.values()}:
        kept = limits.history.model.groups.model
        kept.objects.filter(history__in=found.values()).delete()
        rows = limits.groups.through.objects.filter(ratelimit__in=found)
        kept.objects.bulk_create(
            kept(history=found[row.ratelimit_id], **_values(row)) for row in rows
        )


def _values(row: Any) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.fields}
