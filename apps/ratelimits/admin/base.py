"""The theme where it is installed, the stock admin where it is not."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from simple_history.admin import SimpleHistoryAdmin

from .. import conf
from ..engine import get_engine
from ..models import RulesetVersion
from ..storage.errors import Unavailable

__all__ = [
    "CheckboxInput",
    "CheckboxSelectMultiple",
    "ModelAdmin",
    "PublishedAdmin",
    "Select",
    "detail_action",
]

NOTHING_ENFORCED = (
    "Nothing is enforced: this server was started with IOTA_DISABLED=1. Mend the limit here, then "
    "restart without it."
)

if apps.is_installed("unfold"):
    from unfold.admin import ModelAdmin
    from unfold.decorators import action as detail_action
    from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget as CheckboxSelectMultiple
    from unfold.widgets import UnfoldAdminSelectWidget as Select
    from unfold.widgets import UnfoldBooleanSwitchWidget as CheckboxInput
else:
    from django.contrib.admin import ModelAdmin
    from django.contrib.admin import action as detail_action
    from django.forms import CheckboxInput, CheckboxSelectMultiple, Select


class PublishedAdmin(SimpleHistoryAdmin, ModelAdmin):  # type: ignore[misc]
    """Says so where an edit was saved but could not be published, or where nothing is enforced."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method == "GET" and conf.current().disabled:
            messages.warning(request, NOTHING_ENFORCED)
        return self._published(request, super().changeform_view(request, *args, **kwargs))

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return self._published(request, super().delete_view(request, *args, **kwargs))

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
