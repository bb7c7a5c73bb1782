"""Silences: what nobody is told of, until when, why and by whom."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.decorators import display

from apps.ratelimits.buttons import attempt, back

from .. import handling
from ..models import Silence
from ..templatetags.amounts import moment
from .alert_pages import AlertPageAdmin

LIST = "admin:monitoring_silence_changelist"


@admin.register(Silence)
class SilenceAdmin(AlertPageAdmin):
    list_display = ("__str__", "state", "ends", "reason", "made_by")
    list_select_related = ("rule", "source", "made_by")
    fields = ("rule", "source", "until", "reason")
    change_form_outer_before_template = "monitoring/end_silence.html"
    actions = None

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """It is ended instead, and remains as what was."""
        return False

    def get_urls(self) -> list[Any]:
        end = self.admin_site.admin_view(require_POST(self.end_view))
        return [path("<int:pk>/end/", end, name="monitoring_silence_end"), *super().get_urls()]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        if obj is None:
            return ()
        return ("rule", "source") if obj.is_active else self.fields

    def save_model(self, request: HttpRequest, obj: Silence, form: Any, change: bool) -> None:
        if not change:
            obj.made_by_id = request.user.pk
        super().save_model(request, obj, form, change)

    def end_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A silence ends now."""
        self.require(request, "change_silence")
        found = get_object_or_404(Silence, pk=pk)
        user: Any = request.user
        attempt(
            request,
            lambda: handling.end_silence(found, user),
            "Ended: what still fires is told with the next samples.",
        )
        return back(request, reverse(LIST))

    @display(description="state", label={"Silent": "warning", "Over": "info"})  # type: ignore[untyped-decorator]
    def state(self, silence: Silence) -> str:
        return "Silent" if silence.is_active else "Over"

    @admin.display(description="until", ordering="until")
    def ends(self, silence: Silence) -> SafeString:
        return moment(silence.ended_at or silence.until)
