"""The theme where it is installed, the stock admin where it is not."""

from __future__ import annotations

from typing import Any

from django import forms
from django.apps import apps
from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from simple_history.admin import SimpleHistoryAdmin

from .. import conf
from ..engine import get_engine
from ..models import RulesetVersion
from ..models.entries import REASON_CHARS
from ..storage.errors import Unavailable
from .history import HistoryPages
from .publishing import PublishersAdmin
from .rolling_back import RollsBack

__all__ = [
    "ActionForm",
    "CheckboxInput",
    "CheckboxSelectMultiple",
    "ModelAdmin",
    "PublishedAdmin",
    "Select",
    "TextInput",
    "detail_action",
]

ACTION_CLASSES = " ".join(
    f"group-[.changelist-actions]:{name}"
    for name in ("!bg-white/20", "font-medium", "grow", "px-2", "py-1", "rounded-default")
)
NOTHING_ENFORCED = (
    "Nothing is enforced: this server was started with IOTA_DISABLED=1. Mend the limit here, then "
    "restart without it."
)

if apps.is_installed("unfold"):
    from unfold.admin import ModelAdmin
    from unfold.decorators import action as detail_action
    from unfold.forms import ActionForm
    from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget as CheckboxSelectMultiple
    from unfold.widgets import UnfoldAdminSelectWidget as Select
    from unfold.widgets import UnfoldAdminTextInputWidget as TextInput
    from unfold.widgets import UnfoldBooleanSwitchWidget as CheckboxInput
else:
    from django.contrib.admin import ModelAdmin
    from django.contrib.admin import action as detail_action
    from django.contrib.admin.helpers import ActionForm
    from django.contrib.admin.widgets import AdminTextInputWidget as TextInput
    from django.forms import CheckboxInput, CheckboxSelectMultiple, Select


def badge(key: str, text: str) -> Any:
    """The value of a column whose ``label`` maps keys to colours: only the theme has those."""
    return (key, text) if apps.is_installed("unfold") else text


class ReasonedActionForm(ActionForm):  # type: ignore[misc]
    """The list's actions, with room for why."""

    reason = forms.CharField(
        label="",
        required=False,
        max_length=REASON_CHARS,
        widget=forms.TextInput(
            {
                "placeholder": "Reason",
                "aria-label": "Reason, for the history",
                "class": ACTION_CLASSES,
                "maxlength": REASON_CHARS,
                # Where the theme's script runs, only beside an action that was chosen.
                "x-show": "action",
            }
        ),
    )


class PublishedAdmin(
    RollsBack,
    HistoryPages,
    PublishersAdmin,
    SimpleHistoryAdmin,  # type: ignore[misc]
    ModelAdmin,  # type: ignore[misc]
):
    """Says so where an edit was saved but could not be published, or where nothing is enforced."""

    action_form = ReasonedActionForm

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method == "GET" and conf.current().disabled:
            messages.warning(request, NOTHING_ENFORCED)
        return self._published(request, super().changeform_view(request, *args, **kwargs))

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return self._published(request, super().delete_view(request, *args, **kwargs))

    def history_form_view(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        return self._published(request, super().history_form_view(request, *args, **kwargs))

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method == "GET" and conf.current().disabled:
            messages.warning(request, NOTHING_ENFORCED)
        return self._published(request, super().changelist_view(request, *args, **kwargs))

    def _published(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if request.method == "POST" and response.status_code == 302:
            try:
                behind = (get_engine().store.version() or -1) < RulesetVersion.current()
            except Unavailable:
                behind = True
            if behind:
                messages.warning(
                    request,
                    "Saved, but Redis does not answer: servers keep the limits they have. "
                    "This change is published by itself once Redis is back.",
                )
        return response
