"""What the pages share: nothing is typed in by hand, and each page and button has a permission."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display

from apps.ratelimits.buttons import attempt, back

from ..templatetags.figures import ago, lasted
from ..work import Work

STATE_LABELS = {
    "Done": "success",
    "Failed": "danger",
    "Lost": "danger",
    "Running": "info",
    "Stopping": "warning",
    "Stopped": "warning",
}
"""How unfold shows the state of what a worker carries out."""


class PageAdmin(ModelAdmin):  # type: ignore[misc]
    """Rows come from the recorder; staff look, and press what is on the pages."""

    list_filter_submit = True
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def may(self, request: HttpRequest, verb: str) -> bool:
        """The permission itself, where the stock form of it is not offered."""
        name = f"{self.opts.app_label}.{verb}_{self.opts.model_name}"
        return bool(request.user.is_active and request.user.has_perm(name))

    def require(self, request: HttpRequest, verb: str) -> None:
        if not (self.may(request, verb) or (verb == "view" and self.may(request, "change"))):
            raise PermissionDenied

    def page(
        self, request: HttpRequest, template: str, title: str, **context: Any
    ) -> TemplateResponse:
        request.current_app = self.admin_site.name
        whole = {
            **self.admin_site.each_context(request),
            "title": title,
            "media": self.media + forms.Media(css={"all": ["benchmarks/pages.css"]}),
            **context,
        }
        return TemplateResponse(request, template, whole)


class WorkAdmin(PageAdmin):
    """Of what a worker carries out."""

    actions = None
    lost = ""
    """What becomes of what was stopped, at the end of a sentence."""

    class Media:
        css = {"all": ["benchmarks/pages.css"]}

    @display(description="state", ordering="state", label=STATE_LABELS)  # type: ignore[untyped-decorator]
    def shown_state(self, work: Work) -> str:
        return work.shown_state

    @admin.display(description="asked for", ordering="queued_at")
    def asked(self, work: Work) -> SafeString:
        return ago(work.queued_at)

    @admin.display(description="took")
    def took(self, work: Work) -> str:
        return lasted(work.started_at, work.ended_at) if work.started_at and work.ended_at else ""

    def stop_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Asks what is under way to stop; what still waits has ended with that."""
        self.require(request, "change")
        work = get_object_or_404(self.model, pk=pk)

        def stop() -> None:
            work.stop()
            self.log_change(request, work, "Stopped.")

        attempt(request, stop, f"{work} is to stop{self.lost}.".capitalize())
        return back(request, reverse(f"admin:benchmarks_{self.opts.model_name}_change", args=[pk]))
