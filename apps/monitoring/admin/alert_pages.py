"""What the alerts' pages share: permissions, buttons, the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.http import url_has_allowed_host_and_scheme
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


def attempt(request: HttpRequest, work: Callable[[], object], success: str) -> None:
    """What cannot be done is said on the next page, in the words of whoever refused."""
    try:
        work()
    except ValueError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, success)


def back(request: HttpRequest, default: str) -> HttpResponse:
    """To the page of the button, where that is one of ours."""
    wanted = request.POST.get("next", "")
    ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return HttpResponseRedirect(wanted if ours else default)
