"""Health: is Redis all right, node by node? And the limiter, and Celery's queues."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone

from ..history import Point, lines
from ..metrics import METRICS, Kind, Metric, Unit
from ..models import Source
from ..turns import last_ended, watch_state
from . import chart
from .edits import edits
from .samples import ReadOnly
from .standing import COLUMNS, SHORT, rows, shown, thresholds, verdict

PERIODS = {
    "hour": ("an hour", timedelta(hours=1)),
    "day": ("a day", timedelta(days=1)),
    "week": ("a week", timedelta(days=7)),
}
PERIOD = "hour"
DRAWN = {
    Kind.NODE: (
        "memory_percent", "cpu_percent", "replication_lag_s", "clients_percent", "round_trip_us",
        "ops_per_s", "command_p99_us", "evicted_per_s",
    ),
    Kind.LIMITER: (
        "requests_per_s", "denied_per_s", "check_p99_us", "error_percent", "queue_length",
        "degraded_per_s", "processes", "config_load_us",
    ),
    Kind.BROKER: ("queue_length", "unacked"),
}  # fmt: skip
MOST_POINTS = 240
MOST_ROWS = 60
"""Of the table: the newest, where the chart has more."""


@dataclass(frozen=True, slots=True)
class Drawn:
    metric: Metric
    threshold: str
    data: str
    options: str
    known: bool


@admin.register(Source)
class SourceAdmin(ReadOnly):
    list_display = ("address_or_kind", "kind", "role", "server", "looked_at", "error")
    list_filter = ("kind", "role")
    list_filter_submit = True
    search_fields = ("address",)
    fields = (
        "kind", "address", "role", "server", "run_id", "first_seen_at", "looked_at", "answered_at",
        "error", "gone_at", "unknown", "notes",
    )  # fmt: skip

    @admin.display(description="source", ordering="address")
    def address_or_kind(self, source: Source) -> str:
        return str(source)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.health_view)
        return [path("health/", view, name="monitoring_health"), *super().get_urls()]

    def health_view(self, request: HttpRequest) -> HttpResponseBase:
        """Redis node by node, the limiter, the queues: figures, and charts with their tables."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        now = timezone.now()
        sources = list(Source.objects.all())
        limits = thresholds(
            {name for names in (*COLUMNS.values(), *DRAWN.values()) for name in names}
        )
        found = rows(sources, limits, now)
        by_kind = {kind: [row for row in found if row.source.kind == kind] for kind in Kind}
        chosen = _chosen(request.GET.get("source"), sources)
        period = request.GET.get("period", PERIOD)
        period = period if period in PERIODS else PERIOD
        state = watch_state()
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": "Health",
            "media": self.media
            + forms.Media(css={"all": ["benchmarks/pages.css", "monitoring/health.css"]}),
            "watch": state,
            "ended_at": last_ended(),
            "verdict": verdict(state, found),
            "nodes": by_kind[Kind.NODE],
            "columns": [(SHORT[name], METRICS[name].label) for name in COLUMNS[Kind.NODE]],
            "others": [*by_kind[Kind.LIMITER], *by_kind[Kind.BROKER]],
            "unknown": [(row, what, why) for row in found for what, why in row.unknown],
            "rows": found,
            "chosen": chosen,
            "period": period,
            "over": PERIODS[period][0],
            "periods": {name: label for name, (label, _) in PERIODS.items()},
            **(_drawn(request, chosen, period, limits) if chosen else {}),
        }
        return TemplateResponse(request, "monitoring/health.html", context)


def _chosen(asked: str | None, sources: list[Source]) -> Source | None:
    """The one asked for; else the first server, else whatever there is."""
    by_pk = {str(source.pk): source for source in sources}
    nodes = [source for source in sources if source.kind == Kind.NODE and not source.gone_at]
    return by_pk.get(asked or "") or next(iter([*nodes, *sources]), None)


def _drawn(
    request: HttpRequest, source: Source, period: str, limits: dict[str, float]
) -> dict[str, Any]:
    until = timezone.now()
    since = until - PERIODS[period][1]
    names = DRAWN[Kind(source.kind)]
    found = lines(source, names, since, until, MOST_POINTS)
    names = tuple(name for name in names if _any(found[name]) or name in source.unknown)
    may_see = request.user.has_perm("ratelimits.view_ratelimit")
    happened = edits(since, until) if may_see else []
    charts = [
        Drawn(
            METRICS[name],
            shown(limits[name], METRICS[name].unit) if name in limits else "",
            chart.data(METRICS[name], found[name], limits.get(name), happened),
            chart.options(METRICS[name], found[name], limits.get(name)),
            _any(found[name]),
        )
        for name in names
    ]
    return {
        "charts": charts,
        "edits": happened,
        "any": any(drawn.known for drawn in charts),
        "points": _table([(METRICS[name], found[name]) for name in names]),
    }


def _any(points: list[Point]) -> bool:
    return any(point.mean is not None for point in points)


def _table(found: list[tuple[Metric, list[Point]]]) -> list[tuple[Any, list[str]]]:
    """The newest first; a time of which nothing is known at all is no row."""
    if not found:
        return []
    made = []
    for place, first in reversed(list(enumerate(found[0][1]))):
        row = [(metric.unit, points[place]) for metric, points in found]
        if any(point.mean is not None for _, point in row):
            made.append((first.at, [_words(unit, point) for unit, point in row]))
        if len(made) == MOST_ROWS:
            break
    return made


def _words(unit: Unit, point: Point) -> str:
    if point.mean is None:
        return "unknown"
    if point.low == point.high:
        return shown(point.mean, unit)
    return f"{shown(point.mean, unit)} ({shown(point.low, unit)} to {shown(point.high, unit)})"
