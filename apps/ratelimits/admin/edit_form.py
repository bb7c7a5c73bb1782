"""What every form that edits a limit or an override has: the reason of the change, and a word to
those who may not publish before they have typed in what they may not save."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from .. import conf, rights
from ..models.entries import REASON_CHARS
from .asking import AskingForm
from .base import Select, TextInput
from .edit_text import NOT_YOURS, REASON_MISSING, RENAMED


class ShadedSelect(Select):  # type: ignore[misc]
    """A select some of whose choices are shown and cannot be made."""

    shaded: frozenset[str] = frozenset()

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, *args, **kwargs)
        if str(value) in self.shaded:
            option["attrs"]["disabled"] = True
        return option


class EditForm(AskingForm):
    """``governs`` is the field that decides whether the row is in force."""

    governs: str

    change_reason = forms.CharField(
        label="Reason",
        required=False,
        max_length=REASON_CHARS,
        widget=TextInput,
        help_text="Why you change it: the history tells whoever looks later.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._was_in_force = bool(self.instance.pk) and rights.in_force(self.instance)
        if self.governs in self.fields and not self.may_publish:
            self.tell_what_is_not_theirs()

    @classmethod
    def asks_why(cls, row: Any) -> bool:
        """Whether the form of this row, None for a new one, has a field for the reason."""
        return True

    @property
    def why_field(self) -> str:
        return "change_reason"

    @property
    def may_publish(self) -> bool:
        return rights.may_publish(self.request.user)

    def tell_what_is_not_theirs(self) -> None:
        """On the field that governs, before anything is typed in."""
        raise NotImplementedError

    def comes_in_force(self, data: dict[str, Any]) -> bool:
        """Whether what was typed in is in force once it is saved."""
        raise NotImplementedError

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        data = self.cleaned_data if cleaned is None else cleaned
        comes = self.governs in data and self.comes_in_force(data)
        if (comes or self._was_in_force) and not self.may_publish:
            self.add_error(self.governs if self.governs in self.fields else None, NOT_YOURS)
        if (comes or self._was_in_force) and conf.current().reason_required:
            field = self.why_field if self.why_field in self.fields else None
            if not str(data.get(self.why_field, "")).strip() and field not in self.errors:
                self.add_error(field, REASON_MISSING)
        return data

    def save(self, commit: bool = True) -> Any:
        said = str(self.cleaned_data.get(self.why_field) or "")
        self.instance._change_reason = said[:REASON_CHARS] or None
        return super().save(commit)


class LimitEditForm(EditForm):
    governs = "mode"

    def comes_in_force(self, data: dict[str, Any]) -> bool:
        return rights.denies(data["mode"])

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        was = self.initial.get("name", "")
        renamed = bool(self.instance.pk) and name != was
        if renamed and not self.may_publish and rights.code_depends_on(was):
            raise ValidationError(RENAMED)
        return name

    def tell_what_is_not_theirs(self) -> None:
        field: Any = self.fields["mode"]
        shaded = {str(value) for value, _ in field.choices if rights.denies(str(value))}
        names = [str(label) for value, label in field.choices if value in shaded]
        field.widget = ShadedSelect(choices=field.choices)
        field.widget.shaded = frozenset(shaded)
        field.help_text = f"{field.help_text} {' or '.join(names)}: {_lower(NOT_YOURS)}"
        if self.get_initial_for_field(field, "mode") in shaded and not self.instance.pk:
            self.initial["mode"] = "shadow"


class OverrideEditForm(EditForm):
    governs = "limit"

    def comes_in_force(self, data: dict[str, Any]) -> bool:
        limit = data["limit"]
        return limit is None or rights.denies(limit.mode)

    def tell_what_is_not_theirs(self) -> None:
        field = self.fields["limit"]
        field.help_text = (
            f"One that is off or in shadow. Any other, or every limit: {_lower(NOT_YOURS)}"
        )

    @classmethod
    def asks_why(cls, row: Any) -> bool:
        """A new override has a field of its own for why it is there."""
        return row is not None

    @property
    def why_field(self) -> str:
        return "change_reason" if self.instance.pk else "reason"


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
