"""A limit's life in the admin: the strip above its form, its mode and schedule in the list."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from .. import life_cycle, wording
from ..life_cycle import Phase
from ..models import RateLimit
from .base import badge

Mode = RateLimit.Mode
URL = "ratelimits_life"
COLOURS = {Mode.SHADOW: "info", Mode.CANARY: "warning", Mode.ENFORCE: "success"}


class PhaseFilter(admin.SimpleListFilter):
    """Of those that are in force by their mode."""

    title = "schedule"
    parameter_name = "schedule"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(phase.value, phase.value.capitalize()) for phase in Phase]

    def queryset(self, request: HttpRequest, queryset: QuerySet[RateLimit]) -> QuerySet[RateLimit]:
        chosen = self.value()
        if chosen not in list(Phase):
            return queryset
        return queryset.filter(life_cycle.in_phase(Phase(chosen), timezone.now()))


class TellsTheLifeCycle:
    """For the admin of the limits."""

    def shown_mode(self, limit: RateLimit) -> Any:
        text = str(Mode(limit.mode).label)
        if limit.mode == Mode.CANARY:
            text = f"{text} {wording.percent(limit)}"
        return badge(limit.mode, text)

    shown_mode.short_description = "mode"  # type: ignore[attr-defined]
    shown_mode.admin_order_field = "mode"  # type: ignore[attr-defined]
    shown_mode.label = COLOURS  # type: ignore[attr-defined]

    @admin.display(description="schedule", ordering="active_from", empty_value="always")
    def when(self, limit: RateLimit) -> SafeString | None:
        said = life_cycle.schedule(limit, timezone.now())
        if not said:
            return None
        return format_html('<span title="{}">{}</span>', life_cycle.exact(limit), said)

    def get_urls(self) -> list[Any]:
        site = self.admin_site  # type: ignore[attr-defined]
        told = require_POST(site.admin_view(self.life_view))
        return [path("life/", told, name=URL), *super().get_urls()]  # type: ignore[misc]

    def life_view(self, request: HttpRequest) -> HttpResponse:
        """Where in its life the limit is that the posted form describes; nothing is saved."""
        may_add = self.has_add_permission(request)  # type: ignore[attr-defined]
        if not (may_add or self.has_change_permission(request)):  # type: ignore[attr-defined]
            raise PermissionDenied
        form = self.get_form(request)(request.POST)  # type: ignore[attr-defined]
        form.is_valid()
        if "mode" not in form.cleaned_data:
            # What is wrong there the form says when it is saved.
            return HttpResponse(status=204)
        context = {"life": life_cycle.life(form.instance, timezone.now())}
        return TemplateResponse(request, "ratelimits/life_cycle.html", context)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponseBase:
        limit = self.get_object(request, object_id) if object_id else None  # type: ignore[attr-defined]
        shown = limit or RateLimit()
        context = {
            "life": life_cycle.life(shown, timezone.now()),
            "life_url": reverse(f"admin:{URL}"),
            **(extra_context or {}),
        }
        found: HttpResponseBase = super().changeform_view(  # type: ignore[misc]
            request, object_id, form_url, context
        )
        return found
