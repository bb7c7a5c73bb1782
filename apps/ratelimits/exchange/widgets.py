"""A field's value as it stands in a file, and back.

``render`` gives what JSON has: text, a number, true or false, null, or a list of texts. ``clean``
takes that, or the text of it that a CSV cell or a YAML scalar holds, and raises ValueError, saying
what could stand there instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db import models
from import_export.widgets import ManyToManyWidget, Widget

from ..policy.rules import CountedBy
from ..validators import (
    METHODS,
    split_lines,
    validate_counted_by,
    validate_methods,
    validate_networks,
)

WHOLE = re.compile(r"[+-]?\d{1,20}", re.ASCII)
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
MOST_SHOWN = 60


def widget_of(field: models.Field[Any, Any]) -> Widget:
    """For any field of a model. Raises TypeError where a kind of field has no words yet."""
    if isinstance(field, models.ManyToManyField):
        return Names(field.related_model)
    if isinstance(field, models.ForeignKey):
        return Name(field.related_model)
    if field.choices:
        return Choice(_words(field))
    for kinds, widget in (
        (models.BooleanField, Flag(null=field.null)),
        (models.IntegerField, Whole()),
        (models.DecimalField, Number()),
        (models.DateTimeField, Moment()),
    ):
        if isinstance(field, kinds):
            return widget
    if isinstance(field, (models.CharField, models.TextField)):
        if validate_methods in field.validators:
            return Listed(METHODS, upper=True)
        if validate_counted_by in field.validators:
            return Listed(CountedBy)
        return Listed() if validate_networks in field.validators else Text()
    raise TypeError(f"{field}: no widget in exchange/widgets.py for a {type(field).__name__}")


def _words(field: models.Field[Any, Any]) -> dict[str, Any]:
    """Numbers go by their labels: 60 is "minutes"."""
    numbers = isinstance(field, models.IntegerField)
    return {str(label if numbers else value): value for value, label in field.flatchoices}


def shown(value: object) -> str:
    """Of a value that is refused, short and in one line."""
    if isinstance(value, (list, dict)):
        return f"a {'list' if isinstance(value, list) else 'group of fields'}"
    text = str(value) if len(str(value)) <= MOST_SHOWN else f"{str(value)[:MOST_SHOWN]}…"
    return repr(text) if isinstance(value, str) else text


class Text(Widget):  # type: ignore[misc]
    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            raise ValueError(f"{shown(value)} is no text: put it in quotes.")
        if UNSTORABLE.search(value):
            raise ValueError("It holds a character that is no text, such as NUL: take it out.")
        return value

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> str:
        return value or ""


class Whole(Widget):  # type: ignore[misc]
    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> int | None:
        if value is None or value == "":
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and WHOLE.fullmatch(value.strip()):
            return int(value)
        raise ValueError(f"{shown(value)} is no whole number: write digits only, such as 100.")

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> int | None:
        return value  # type: ignore[no-any-return]


class Number(Widget):  # type: ignore[misc]
    """A decimal, as text: JSON's numbers are not exact."""

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> Decimal | None:
        if value is None or value == "":
            return None
        try:
            if isinstance(value, bool) or not Decimal(str(value)).is_finite():
                raise InvalidOperation
            return Decimal(str(value))
        except InvalidOperation:
            raise ValueError(f"{shown(value)} is no number: write such as 12.5.") from None

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> str | None:
        return None if value is None else f"{Decimal(value).normalize():f}"


class Flag(Widget):  # type: ignore[misc]
    def __init__(self, *, null: bool = False) -> None:
        super().__init__()
        self.null = null

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> bool | None:
        if isinstance(value, bool):
            return value
        if self.null and value in (None, ""):
            return None
        word = value.strip().lower() if isinstance(value, str) else None
        if word not in ("true", "false"):
            raise ValueError(f"{shown(value)} is neither: write true or false.")
        return word == "true"

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> bool | None:
        return value  # type: ignore[no-any-return]


class Choice(Widget):  # type: ignore[misc]
    def __init__(self, words: Mapping[str, Any]) -> None:
        super().__init__()
        self.words = words

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> Any:
        word = value.strip().lower() if isinstance(value, str) else ""
        for known, chosen in self.words.items():
            if known.lower() == word:
                return chosen
        raise ValueError(f"{shown(value)} is none of {', '.join(self.words)}: write one of them.")

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> str:
        known = {chosen: word for word, chosen in self.words.items()}
        return known.get(value, "" if value is None else str(value))


class Moment(Widget):  # type: ignore[misc]
    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> datetime | None:
        if value is None or value == "":
            return None
        try:
            moment = datetime.fromisoformat(value.strip())
            if moment.tzinfo is None:
                raise ValueError
            return moment.astimezone(UTC)
        except (AttributeError, ValueError, OverflowError):
            raise ValueError(
                f"{shown(value)} is no time with its zone: write such as 2026-01-31T08:00:00+01:00."
            ) from None

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat()


class Listed(Widget):  # type: ignore[misc]
    """A list in the file, a text with an entry per line, or with commas, in the model.

    With ``order`` the words that it names come first, in that order, each once.
    """

    def __init__(self, order: Iterable[str] = (), *, upper: bool = False) -> None:
        super().__init__()
        self.order = tuple(str(word) for word in order)
        self.upper = upper

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> str:
        given = value if isinstance(value, list) else [value]
        parts = [part for text in given for part in split_lines(Text().clean(text))]
        return ("," if self.order else "\n").join(self._ordered(parts))

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> list[str]:
        return self._ordered(split_lines(value or ""))

    def _ordered(self, parts: Iterable[str]) -> list[str]:
        words = [part.upper() if self.upper else part for part in parts]
        if not self.order:
            return words
        known = [word for word in self.order if word in words]
        return [*known, *(word for word in words if word not in self.order)]


def _name_of(model: Any) -> str:
    """The field that names a row of the model to people."""
    return getattr(model, "USERNAME_FIELD", "name")


class Name(Widget):  # type: ignore[misc]
    """A row of another table, by its name; none is null, or an empty cell.

    Each name is looked up once until ``forget``: many rows name the same.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._known: dict[str, Any] = {}

    def forget(self) -> None:
        self._known.clear()

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> Any:
        name = Text().clean(value)
        if name == "":
            return None
        if name not in self._known:
            found = self.model._default_manager.filter(**{_name_of(self.model): name})
            self._known[name] = found.first()
        found = self._known[name]
        if found is None:
            what = self.model._meta.verbose_name
            raise ValueError(f"No {what} is called {shown(name)}: make it first, or mend the name.")
        return found

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> str | None:
        return None if value is None else str(getattr(value, _name_of(self.model)))


class Names(ManyToManyWidget):  # type: ignore[misc]
    """Rows of another table by their names, which may hold commas: in a text, one per line."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._name = Name(model)

    def forget(self) -> None:
        self._name.forget()

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> list[Any]:
        if value is None or value == "":
            return []
        names = value if isinstance(value, list) else Text().clean(value).splitlines()
        found = [self._name.clean(part) for part in names if part != ""]
        return list({row.pk: row for row in found}.values())

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> list[str]:
        if value is None:
            return []
        rows = value if isinstance(value, list) else value.all()
        return sorted(str(getattr(row, _name_of(self.model))) for row in rows)
