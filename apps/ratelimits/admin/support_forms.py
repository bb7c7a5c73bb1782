"""The forms of the pages that explain a request and look at an identity."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from django import forms
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.utils import timezone

from .. import conf
from ..caller import MAX_KEY_CHARS, Callers
from ..explain import Question
from ..inspecting import Subject, is_digest
from ..policy.client_ip import MAX_ADDRESS_CHARS, parse_address
from ..validators import METHODS, validate_header
from .base import Select

if apps.is_installed("unfold"):
    from unfold.widgets import UnfoldAdminTextareaWidget as Textarea
    from unfold.widgets import UnfoldAdminTextInputWidget as TextInput
else:
    from django.forms import Textarea, TextInput

MOST_HEADERS = 20
MAX_PATH_CHARS = 2_000
PRESETS = {
    "hour": ("for an hour", timedelta(hours=1)),
    "day": ("for a day", timedelta(days=1)),
    "week": ("for a week", timedelta(days=7)),
    "date": ("until a date", None),
}
SESSION_CHARS = 64


class AddressField(forms.CharField):
    widget = TextInput

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=MAX_ADDRESS_CHARS, **kwargs)

    def clean(self, value: Any) -> str:
        text: str = super().clean(value)
        if text and parse_address(text) is None:
            raise ValidationError("No address: write it as 203.0.113.9 or 2001:db8::1.")
        return text


class UserField(forms.CharField):
    """A user's name; cleaned, the user, or None."""

    widget = TextInput

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=254, required=False, **kwargs)

    def clean(self, value: Any) -> Any:
        name = super().clean(value)
        if not name:
            return None
        model = get_user_model()
        found = model._default_manager.filter(**{model.USERNAME_FIELD: name}).first()
        if found is None:
            raise ValidationError("No user of the site is called so.")
        return found


class QuestionForm(forms.Form):
    """A request as somebody describes it."""

    method = forms.ChoiceField(choices=[(name, name) for name in METHODS], widget=Select)
    path = forms.CharField(
        max_length=MAX_PATH_CHARS,
        widget=TextInput(attrs={"placeholder": "/api/test"}),
        help_text="As the client sends it; or a whole URL, where a limit asks for the host.",
    )
    address = AddressField(help_text="That the connection comes from: the client's, or a proxy's.")
    forwarded_for = forms.CharField(
        label="X-Forwarded-For",
        max_length=1_000,
        required=False,
        widget=TextInput,
        help_text="Where a proxy is between: as it arrives here.",
    )
    user = UserField(help_text="Who is signed in. Empty: nobody.")
    headers = forms.CharField(
        max_length=10_000,
        required=False,
        widget=Textarea(attrs={"rows": 2, "placeholder": "X-Api-Key: k"}),
        help_text="Others that limits count by, one per line. Used here and kept nowhere.",
    )

    def clean_path(self) -> str:
        text = self.cleaned_data["path"]
        try:
            parts = urlsplit(text)
        except ValueError as error:
            raise ValidationError("No path or URL: write /api/test, or https://…") from error
        if not parts.netloc and not parts.path.startswith("/"):
            raise ValidationError("A path begins with '/': write /api/test.")
        self.host = parts.netloc
        return unquote(parts.path or "/")

    def clean_headers(self) -> dict[str, str]:
        lines = [line for line in self.cleaned_data["headers"].splitlines() if line.strip()]
        if len(lines) > MOST_HEADERS:
            raise ValidationError(f"At most {MOST_HEADERS} headers.")
        found = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not value.strip():
                raise ValidationError("Write each as 'Name: value', such as X-Api-Key: k.")
            validate_header(name.strip())
            found[name.strip()] = value.strip()
        return found

    def question(self) -> Question:
        said = self.cleaned_data
        return Question(
            method=said["method"],
            path=said["path"],
            host=self.host,
            address=said["address"],
            forwarded_for=said["forwarded_for"],
            user=said["user"],
            headers=said["headers"],
        )


class IdentityForm(forms.Form):
    """Whom to look at: any of these together, or a digest alone."""

    address = AddressField(required=False, help_text="The client's own, not a proxy's.")
    user = UserField(help_text="A user of the site, by name.")
    header = forms.CharField(
        label="Header of an API key",
        max_length=64,
        required=False,
        validators=[validate_header],
        widget=TextInput(attrs={"placeholder": "X-Api-Key"}),
    )
    key = forms.CharField(
        label="The key, or whose it is",
        max_length=MAX_KEY_CHARS,
        required=False,
        widget=TextInput(attrs={"autocomplete": "off"}),
        help_text="A key is shown to the site's validator, and kept nowhere.",
    )
    session = forms.CharField(
        label="Key of a session",
        max_length=SESSION_CHARS,
        required=False,
        widget=TextInput(attrs={"autocomplete": "off"}),
    )
    digest = forms.CharField(
        max_length=20,
        required=False,
        widget=TextInput(attrs={"autocomplete": "off"}),
        help_text="20 characters, as a denial or Redis has it. Alone.",
    )

    def clean_digest(self) -> str:
        text: str = self.cleaned_data["digest"]
        if text and not is_digest(text):
            raise ValidationError("No digest: it has 20 letters, digits, - and _.")
        return text

    def clean(self) -> dict[str, Any]:
        said = {**self.cleaned_data}
        named = [name for name in ("address", "user", "key", "session") if said.get(name)]
        if self.errors:
            return said
        if said.get("digest") and named:
            raise ValidationError("A digest stands alone: leave the others empty.")
        if not named and not said.get("digest"):
            raise ValidationError("Say who: an address, a user, a key, a session, or a digest.")
        if bool(said.get("key")) != bool(said.get("header")):
            self.add_error("key", "A key and the header that holds it go together.")
        return said

    def subject(self) -> Subject:
        said = self.cleaned_data
        owner = said["key"]
        if owner:
            callers = Callers(conf.current().key_validator)
            owner = callers.owner(said["header"], owner) or owner
        return Subject(
            address=said["address"],
            user=said["user"],
            header=said["header"],
            key_of=owner,
            session=said["session"],
            digest=said["digest"],
        )


class UntilForm(forms.Form):
    """For how long somebody is blocked or exempt, and why."""

    preset = forms.ChoiceField(choices=[(name, words) for name, (words, _) in PRESETS.items()])
    date = forms.DateTimeField(
        required=False,
        widget=TextInput(attrs={"type": "datetime-local"}),
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"],
    )
    reason = forms.CharField(max_length=300, required=False, widget=TextInput)

    def clean(self) -> dict[str, Any]:
        said = {**self.cleaned_data}
        if said.get("preset") == "date" and not said.get("date") and "date" not in self.errors:
            self.add_error("date", "Choose until when.")
        return said

    def until(self) -> datetime:
        _, length = PRESETS[self.cleaned_data["preset"]]
        if length is None:
            chosen: datetime = self.cleaned_data["date"]
            return chosen
        return timezone.now() + length
