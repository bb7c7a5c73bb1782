"""What an import does, field by field: for the admin's page, a terminal, and programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import Any

NUMBER = re.compile(r"\d+")
Words = Mapping[str, Any]
"""A row as it stands in a file: field -> word, number or list."""


class Kind(StrEnum):
    NEW = "new"
    CHANGED = "changed"
    OFF = "switched off"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """``label`` is what the admin calls the field."""

    name: str
    label: str
    before: Any
    after: Any

    @property
    def before_text(self) -> str:
        return as_text(self.before)

    @property
    def after_text(self) -> str:
        return as_text(self.after)


@dataclass(frozen=True, slots=True)
class Change:
    """``row`` counts from 1; None where the file has none. Of a new one, ``before`` are the values
    that it would have without the file."""

    kind: Kind
    name: str
    row: int | None
    fields: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a row, or the file, cannot be imported. ``field`` and ``row`` where it is one's fault."""

    text: str
    row: int | None = None
    name: str = ""
    field: str = ""

    @property
    def where(self) -> str:
        row = "" if self.row is None else f"row {self.row:,}"
        named = f"{row} ({self.name})" if row and self.name else row
        return ", ".join(part for part in (named, self.field) if part)

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.where else self.text


@dataclass(slots=True)
class Changes:
    """Of one import. ``objections``: what speaks against it, to whom it would lock out."""

    changes: list[Change] = field(default_factory=list)
    same: int = 0
    refused: list[Refused] = field(default_factory=list)
    objections: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def told(self) -> str:
        """Of what was shown: another text where anything else would be done by now."""
        # A new limit's number, which its page has in its address, is another at each try.
        said = [NUMBER.sub("0", text) for text in self.objections]
        seen = json.dumps([self.as_json(), said])
        return blake2b(seen.encode(), digest_size=16).hexdigest()

    @property
    def summary(self) -> str:
        counts = [
            f"{number:,} {kind}"
            for kind in Kind
            if (number := sum(change.kind is kind for change in self.changes))
        ]
        return ", ".join([*counts, f"{self.same:,} unchanged"])

    def as_json(self) -> dict[str, Any]:
        return {
            "changes": [
                {
                    "name": change.name,
                    "what": change.kind.value,
                    "fields": {
                        one.name: {"before": one.before, "after": one.after}
                        for one in change.fields
                    },
                }
                for change in self.changes
            ],
            "unchanged": self.same,
        }


def compared(before: Words, after: Words, labels: Mapping[str, str]) -> Iterator[FieldChange]:
    for name, value in after.items():
        if value != before[name]:
            yield FieldChange(name, labels[name], before[name], value)


def as_text(value: Any) -> str:
    """One line that a terminal cannot take for a command."""
    if value is None or value == "" or value == []:
        return "(empty)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:,}"
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return text if text.isprintable() else json.dumps(text)


def lines(changes: Iterable[Change]) -> Iterator[tuple[Kind, bool, str]]:
    """For people: kind, whether the line is a head, text."""
    for change in changes:
        sign = {Kind.NEW: "+", Kind.CHANGED: "~", Kind.OFF: "-"}[change.kind]
        note = {Kind.NEW: " (new)", Kind.CHANGED: "", Kind.OFF: " (not in the file)"}[change.kind]
        yield change.kind, True, f"{sign} {as_text(change.name)}{note}"
        for one in change.fields:
            old = "" if change.kind is Kind.NEW else f"{one.before_text} -> "
            yield change.kind, False, f"    {one.name}: {old}{one.after_text}"
