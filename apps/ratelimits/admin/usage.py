"""The usage of a limit: is it doing its job? What it allowed and denied, beside its edits; and in
the list of limits, who denied lately."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.apps import apps
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from .. import usage_history, wording
from ..engine import get_engine
from ..history import Edit, edits
from ..models import RateLimit, RulesetVersion
from ..storage.usage import LimitUsage
from ..usage_history import Denials, Point
from . import usage_chart
from .base import detail_action
from .denied import top_denied
from .in_force import in_force

HOURS = 24
"""Of the list's sparkline; the hour that is under way is the last of them."""
HIGH, BAR, GAP = 20, 3, 1
"""Of the sparkline, px."""


@dataclass(frozen=True, slots=True)
class Period:
    label: str
    over: timedelta
    most: int


PERIODS = {
    "hour": Period("Last hour", timedelta(hours=1), 61),
    "day": Period("Last day", timedelta(days=1), 97),
    "month": Period("Last month", timedelta(days=30), 121),
}
PERIOD = "hour"
COLUMNS = ("from", "allowed", "denied", "would_have_denied", "failed_over", "mean_check_us")


class DeniedFilter(admin.SimpleListFilter):
    title = "denied something"
    parameter_name = "denied"
    SINCE = {"hour": timedelta(hours=1), "day": timedelta(days=1)}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("hour", "In the last hour"), ("day", "In the last day")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[RateLimit]) -> QuerySet[RateLimit]:
        over = self.SINCE.get(self.value() or "")
        if over is None:
            return queryset
        return queryset.filter(pk__in=usage_history.who_denied(timezone.now() - over))


class ShowsUsage:
    """For the admin of the limits: a page of a limit, and a column of the list."""

    admin_site: Any
    media: Any

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.usage)
        urls: list[Any] = super().get_urls()  # type: ignore[misc]
        return [path("<path:object_id>/usage/", view, name="ratelimits_ratelimit_usage"), *urls]

    @detail_action(description="Usage", permissions=["view"])  # type: ignore[untyped-decorator]
    def usage(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """What a limit allowed and denied: ``?period=`` of PERIODS; ``format=csv`` for its points
        alone."""
        limit = self.get_object(request, object_id)  # type: ignore[attr-defined]
        if not self.has_view_permission(request, limit):  # type: ignore[attr-defined]
            raise PermissionDenied
        if limit is None:
            raise Http404(f"There is no limit {object_id}.")
        name = request.GET.get("period", PERIOD)
        name = name if name in PERIODS else PERIOD
        period = PERIODS[name]
        until = timezone.now()
        points = usage_history.points(limit.pk, until - period.over, until, period.most)
        if request.GET.get("format") == "csv":
            return _as_csv(limit, name, points)
        happened = edits(points[0].at, until, limit=limit.pk)
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "opts": RateLimit._meta,
            "original": limit,
            "title": f"Usage of {limit.name}",
            "media": self.media
            + forms.Media(
                css={"all": ["ratelimits/sweeps.css"]},
                js=[forms.Script("ratelimits/charts.js", defer=True)],  # type: ignore[list-item]
            ),
            "themed": apps.is_installed("unfold"),
            "limit": limit,
            "sentence": wording.sentence(limit, limit.groups.all()),
            "periods": [(key, one.label, key == name) for key, one in PERIODS.items()],
            "period": name,
            "over": period.label.lower(),
            "standing": usage_history.standing(),
            "begins": points[0].at,
            "all": _sum(points),
            "charts": _charts(points, happened, until),
            "edits": happened,
            "top_denied": top_denied(limit.pk),
            "points": points[::-1],
            "each": points[-1].at - points[-2].at,
            "in_force": in_force(get_engine()),
            "version": RulesetVersion.current(),
        }
        return TemplateResponse(request, "ratelimits/usage.html", context)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """With what the limits of the page denied: one query for all of them."""
        changelist = super().get_changelist_instance(request)  # type: ignore[misc]
        limits = list(changelist.result_list)
        now = timezone.now()
        found = usage_history.denials(
            [limit.pk for limit in limits], now - timedelta(hours=HOURS - 1), now
        )
        for limit in limits:
            limit.denied_by_hour = found.get(limit.pk, {})
        changelist.result_list = limits
        return changelist

    @admin.display(description="denied, 24 h")
    def denied_lately(self, limit: RateLimit) -> SafeString:
        return sparkline(limit, getattr(limit, "denied_by_hour", {}), timezone.now())


def sparkline(limit: RateLimit, denied: Denials, now: datetime) -> SafeString:
    """A bar for each of the last hours. Of one that denied nobody, what it would have denied."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    hours = [hour - timedelta(hours=HOURS - 1 - place) for place in range(HOURS)]
    shadow = not any(one for one, _ in denied.values())
    numbers = [denied.get(at, (0, 0))[shadow] for at in hours]
    number, highest = sum(numbers), max(numbers)
    what = "would have been denied" if shadow and number else "denied"
    said = f"{number:,} {what} in {HOURS} hours"
    if number:
        at = timezone.localtime(hours[numbers.index(highest)])
        said += f", most from {at:%H:%M} ({highest:,})"
    bars = [
        (place * (BAR + GAP), HIGH - high, BAR, high)
        for place, one in enumerate(numbers)
        if one and (high := max(1, round(HIGH * one / highest)))
    ]
    return format_html(
        '<a class="us-spark{}" href="{}?period=day" title="{}">'
        '<svg aria-hidden="true" width="{}" height="{}">'
        '<path d="M0 {}.5h{}"/>{}</svg>'
        '<span aria-hidden="true">{}</span><span class="us-said">{}</span></a>',
        " us-shadow" if shadow else "",
        reverse("admin:ratelimits_ratelimit_usage", args=[limit.pk]),
        said,
        HOURS * (BAR + GAP),
        HIGH + 1,
        HIGH,
        HOURS * (BAR + GAP),
        format_html_join("", '<rect x="{}" y="{}" width="{}" height="{}"/>', bars),
        f"{number:,}",
        said,
    )


def _charts(
    points: Sequence[Point], happened: Sequence[Edit], until: datetime
) -> list[usage_chart.Chart]:
    if all(point.is_empty for point in points):
        return []
    # The time that is under way would look like a fall; where there is nothing else, it is drawn.
    drawn = points[:-1] if any(not point.is_empty for point in points[:-1]) else points
    return [
        usage_chart.chart("Allowed", usage_chart.ALLOWED, drawn, happened, until),
        usage_chart.chart("Denied", usage_chart.DENIED, drawn, happened, until),
    ]


def _sum(points: Sequence[Point]) -> LimitUsage:
    sums = [
        sum(getattr(point, part) for point in points)
        for part in ("allowed", "denied", "would_deny", "degraded")
    ]
    spent = (
        (point.mean_us or 0.0) * (point.allowed + point.denied + point.would_deny)
        for point in points
    )
    allowed, denied, would_deny, degraded = sums
    return LimitUsage(allowed, denied, would_deny, degraded, sum_us=round(sum(spent)))


def _as_csv(limit: RateLimit, period: str, points: Sequence[Point]) -> HttpResponse:
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    name = f"usage-{limit.name}-{period}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    writer = csv.writer(response)
    writer.writerow(COLUMNS)
    writer.writerows(_rows(points))
    return response


def _rows(points: Sequence[Point]) -> Iterator[tuple[Any, ...]]:
    for point in points:
        mean = "" if point.mean_us is None else f"{point.mean_us:.1f}"
        verdicts = (point.allowed, point.denied, point.would_deny, point.degraded)
        yield (point.at.isoformat(), *verdicts, mean)
