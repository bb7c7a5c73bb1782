"""What the alerts' pages share: permissions, buttons, the way back."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin

CSS = forms.Media(css={"all": ["benchmarks/pages.css", "monitoring/alerts.css"]})
ALERTS = "admin:monitoring_alert_changelist"


class AlertPageAdmin(ModelAdmin):  # type: ignore[misc]
    list_per_page = 50
    list_filter_submit = True

    class Media:
        css = {"all": ["benchmarks/pages.css", "monitoring/alerts.css"]}

    def require(self, request: HttpRequest, *permissions: str) -> None:
        """One of them, by their whole names."""
        if not any(may(request, name) for name in permissions):
            raise PermissionDenied

    def page(
        self, request: HttpRequest, template: str, title: str, **context: Any
    ) -> TemplateResponse:
        request.current_app = self.admin_site.name
        whole = {
            **self.admin_site.each_context(request),
            "title": title,
            "media": self.media + CSS,
            "here": request.get_full_path(),
            **context,
        }
        return TemplateResponse(request, template, whole)


def may(request: HttpRequest, permission: str) -> bool:
    user = request.user
    return bool(user.is_active and user.is_staff and user.has_perm(f"monitoring.{permission}"))
