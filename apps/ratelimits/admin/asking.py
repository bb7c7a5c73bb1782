"""A form that asks before it saves what would lock its author out: a tick, once more Save.

Without a script, and nothing that was typed in is lost.
"""

from __future__ import annotations

from collections.abc import Sequence

from django import forms
from django.forms import ModelForm
from django.http import HttpRequest

from .base import CheckboxInput


class AskingForm(ModelForm):  # type: ignore[type-arg]
    lock_out = forms.BooleanField(
        label="Save it all the same",
        required=False,
        widget=forms.HiddenInput(),
        help_text="The way back is a command on the server, manage.py ratelimit disable, or a "
        "restart with IOTA_DISABLED=1.",
    )

    request: HttpRequest
    """Of the person who edits; the admin's ``get_form`` sets it."""

    def reasons(self) -> Sequence[str]:
        """What speaks against saving the instance as the form has made it."""
        raise NotImplementedError

    def _post_clean(self) -> None:
        """After the model's own checks: only what could be saved is tried."""
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        said = self.reasons()
        if not said:
            return
        self.fields["lock_out"].widget = CheckboxInput()
        if not self.cleaned_data.get("lock_out"):
            for text in said:
                self.add_error("lock_out", text)
