"""Alerts: what fires, then what is pending, each with its cure; then what is over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from apps.ratelimits.buttons import attempt, back

from .. import alerting, guide, handling
from ..beside import beside
from ..models import Alert, AlertRule, Channel, Notification, RuleState, Silence
from .alert_pages import ALERTS, AlertPageAdmin, may

OVER = 25
"""On a page of what is over."""
MESSAGES = 15
DAY = timedelta(days=1)
TROUBLED = (Notification.State.FAILED, Notification.State.UNCLEAR)


@admin.register(Alert)
class AlertAdmin(AlertPageAdmin):
    """Rows come from the evaluator; staff look, and silence."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path(
                "<int:pk>/silence/",
                view(require_POST(self.silence_view)),
                name="monitoring_alert_silence",
            ),
            path("guide/<slug:name>/", view(self.guide_view), name="monitoring_guide"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        self.require(request, "view_alert", "change_alert")
        now = timezone.now()
        silences = list(Silence.objects.active(now).select_related("rule", "source", "made_by"))
        shown = [_Shown(alert, silences) for alert in alerting.open_alerts()]
        all_of_them = request.GET.get("all") == "1"
        over = Alert.objects.filter(state=Alert.State.RESOLVED).order_by("-resolved_at", "-pk")
        if not all_of_them:
            over = over.exclude(fired_at=None)
        page = Paginator(over, OVER).get_page(request.GET.get("p"))
        notifications = Notification.objects.select_related("channel", "rule")
        return self.page(
            request,
            "monitoring/alerts.html",
            "Alerts",
            firing=[one for one in shown if one.firing],
            pending=[one for one in shown if not one.firing],
            silences=silences,
            late=alerting.is_late(now),
            evaluated_at=alerting.last_evaluated(),
            rules=AlertRule.objects.filter(enabled=True).count(),
            phases=alerting.phases(),
            states=_states(),
            over=page,
            all_of_them=all_of_them,
            notifications=notifications[:MESSAGES],
            troubled=notifications.filter(state__in=TROUBLED, made_at__gte=now - DAY).count(),
            told=[one for one in Channel.objects.filter(enabled=True) if one.reaches],
            hours=handling.HOURS,
            may_silence=may(request, "add_silence"),
            may_end=may(request, "change_silence"),
        )

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponseBase:
        """Its place in the list."""
        self.require(request, "view_alert", "change_alert")
        return HttpResponseRedirect(f"{reverse(ALERTS)}#alert-{object_id}")

    def silence_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """An alert is silenced for so many hours."""
        self.require(request, "add_silence")
        alert = get_object_or_404(Alert, pk=pk)
        user: Any = request.user
        hours = request.POST.get("hours", "")
        number = int(hours) if hours.isascii() and hours.isdecimal() and len(hours) < 4 else 0

        def silence() -> None:
            handling.silence(alert, user, number, request.POST.get("reason", ""))

        attempt(request, silence, f"Silenced for {number} h: nobody is told of {alert}.")
        return back(request, reverse(ALERTS))

    def guide_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """A guide of the documentation, where whoever is woken can read it."""
        self.require(request, "view_alert", "change_alert", "view_alertrule", "change_alertrule")
        try:
            found = guide.read(name)
        except FileNotFoundError as error:
            raise Http404 from error
        return self.page(request, "monitoring/guide.html", found.title, guide=found)


def _states() -> list[RuleState]:
    """All of them, the worst first; what is not known before what is fine."""
    order = {"firing": 0, "pending": 1, "no data": 2, "ok": 3}
    found = RuleState.objects.filter(rule__enabled=True).select_related("rule", "source")
    return sorted(found, key=lambda one: (order[one.phase], one.rule.name, str(one.source)))


class _Shown:
    """An open alert, as the template needs it."""

    def __init__(self, alert: Alert, silences: list[Silence]) -> None:
        self.row = alert
        self.firing = alert.state == Alert.State.FIRING
        self.since = alert.fired_at if self.firing else alert.pending_since
        self.beside = beside(alert)
        self.silence = next((one for one in silences if one.covers(alert)), None)
        self.guide = guide.link(alert.guide)
        self.for_s = alert.rule.for_s if alert.rule else 0
