"""What differs between two states of a limit or an override: field by field, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import Group
from django.db.models import OuterRef, Subquery
from django.utils.formats import date_format
from django.utils.timezone import localtime

from .models import RateLimit
from .validators import split_lines

NOT_EDITS = ("id", "created_at", "updated_at")
"""What changes by itself."""
EMPTY = "empty"
MOST_CHARS = 300
"""Of a value, in words; a limit may name thousands of networks."""


@dataclass(frozen=True, slots=True)
class Version:
    """A state: ``row`` is an entry of the history, or the limit or override itself."""

    row: Any
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one field, by its label."""

    label: str
    before: str
    after: str


def with_before(entries: Any) -> Any:
    """A queryset of entries, each with the number of the one it followed as ``before``."""
    earlier = entries.model._default_manager.filter(
        id=OuterRef("id"), history_id__lt=OuterRef("history_id")
    )
    return entries.annotate(
        before=Subquery(earlier.order_by("-history_id").values("history_id")[:1])
    )


def followed(entries: Sequence[Any]) -> dict[int, Any]:
    """By their numbers, the entries and those that they followed; of ``with_before``."""
    known = {entry.history_id: entry for entry in entries}
    wanted = {entry.before for entry in entries}.difference(known, {None})
    if wanted:
        known |= entries[0].__class__._default_manager.in_bulk(wanted)
    return known


def versions(entries: Iterable[Any]) -> dict[int, Version]:
    """By the numbers of the entries; one query. A deletion has the groups that were there last."""
    rows = list(entries)
    if not rows or not rows[0]._history_m2m_fields:
        return {row.history_id: Version(row) for row in rows}
    source = {row.history_id: row.history_id for row in rows}
    for row in rows:
        if row.history_type == "-" and getattr(row, "before", None):
            source[row.history_id] = row.before
    groups: dict[int, list[int]] = {}
    kept = type(rows[0]).groups.model._default_manager.filter(history__in=set(source.values()))
    for history_id, group in kept.order_by("group").values_list("history_id", "group_id"):
        groups.setdefault(history_id, []).append(group)
    return {
        row.history_id: Version(row, tuple(groups.get(source[row.history_id], ()))) for row in rows
    }


def version(row: Any) -> Version:
    """Of a limit or override as the database has it."""
    if isinstance(row, RateLimit):
        return Version(row, tuple(row.groups.order_by("pk").values_list("pk", flat=True)))
    return Version(row)


class Words:
    """Puts states of one model in words. What they name is asked for once: a query for each kind
    of row."""

    def __init__(self, model: Any, known: Iterable[Version]) -> None:
        states = list(known)
        self._fields = [
            field for field in model._meta.concrete_fields if field.name not in NOT_EDITS
        ]
        self._has_groups = bool(model._meta.many_to_many)
        self._named: dict[str, dict[Any, Any]] = {}
        for field in self._fields:
            if field.is_relation:
                pks = {getattr(state.row, field.attname) for state in states} - {None}
                self._named[field.name] = field.remote_field.model._default_manager.in_bulk(pks)
        pks = {pk for state in states for pk in state.groups}
        self._groups: dict[Any, Any] = Group.objects.in_bulk(pks) if pks else {}

    def differences(self, before: Version, after: Version) -> tuple[Difference, ...]:
        found = []
        for field in self._fields:
            old, new = (getattr(state.row, field.attname) for state in (before, after))
            if old == new:
                continue
            if field.name == "epoch":
                found.append(Difference("what was counted", "kept", "forgotten: started afresh"))
                continue
            label = str(field.verbose_name)
            found.append(Difference(label, self._word(field, old), self._word(field, new)))
        if self._has_groups and set(before.groups) != set(after.groups):
            words = (self._group_names(state.groups) for state in (before, after))
            found.append(Difference("groups", *words))
        return tuple(found)

    def groups(self, state: Version) -> list[Any]:
        """Those of it that are still there."""
        return [self._groups[pk] for pk in state.groups if pk in self._groups]

    def _group_names(self, pks: Sequence[int]) -> str:
        names = [str(self._groups.get(pk, f"group {pk}, which is gone")) for pk in pks]
        return _short(", ".join(sorted(names)) or EMPTY)

    def _word(self, field: Any, value: Any) -> str:
        if value is None or value == "":
            return EMPTY
        if field.is_relation:
            gone = f"{field.remote_field.model._meta.verbose_name} {value}, which is gone"
            return _short(str(self._named[field.name].get(value, gone)))
        if field.flatchoices:
            return str(dict(field.flatchoices).get(value, value))
        if field.name == "counted_by":
            labels = dict(RateLimit.CountedBy.choices)
            return ", ".join(str(labels.get(part, part)) for part in split_lines(value))
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, int):
            return f"{value:,}"
        if isinstance(value, datetime):
            return date_format(localtime(value), "DATETIME_FORMAT")
        return _short(", ".join(str(value).split("\n")))


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARS else f"{text[: MOST_CHARS - 1]}…"
