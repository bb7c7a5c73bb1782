"""Trends: did we get slower, since when, by how much? And the list of metrics behind it."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from .. import handling, statistics
from ..models import Machine, Measurement, Metric, Regression
from ..series import Point, Series, badness, change
from ..thinning import thin
from ..verdict import verdict
from . import chart
from .base import PageAdmin
from .happenings import happenings

PERIODS = {"7": "7 days", "30": "30 days", "90": "90 days", "365": "a year", "all": "all"}
PERIOD = "90"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the page is about; ``note`` where it could not be all that was asked for."""

    metric: Metric
    machine: Machine
    branch: str
    period: str
    note: str = ""

    @property
    def query(self) -> str:
        return urlencode(
            {
                "metric": self.metric.pk,
                "machine": self.machine.pk,
                "branch": self.branch,
                "period": self.period,
            }
        )

    def series(self) -> Series:
        since = None
        if self.period != "all":
            since = timezone.now() - timedelta(days=int(self.period))
        return Series(self.metric, self.machine, self.branch, since)


class ChoiceForm(forms.Form):
    """A plain GET: an address that can be kept and sent."""

    metric = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    machine = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    branch = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    period = forms.ChoiceField(widget=UnfoldAdminSelectWidget, choices=list(PERIODS.items()))


class MetricForm(forms.ModelForm):  # type: ignore[type-arg]
    reason = forms.CharField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Of ignoring the metric: what is open of it is closed with it.",
    )

    class Meta:
        model = Metric
        fields = ("threshold_percent", "ignored")

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or self.cleaned_data
        percent = found.get("threshold_percent")
        if percent is not None and not 1 <= percent <= 1_000:
            self.add_error("threshold_percent", "Choose between 1 and 1,000 %, or leave it empty.")
        starts = found.get("ignored") and "ignored" in self.changed_data
        if starts and not (found.get("reason") or "").strip():
            self.add_error("reason", "Say why: to ignore a metric needs a reason.")
        return found


@admin.register(Metric)
class MetricAdmin(PageAdmin):
    form = MetricForm
    list_display = ("name", "suite", "unit", "direction", "threshold", "ignored", "trend")
    list_filter = ("suite", "ignored", "direction", "unit")
    search_fields = ("suite", "benchmark", "metric", "contestant")
    readonly_fields = ("name", "suite", "unit", "direction", "trend")
    fields = (*readonly_fields, "threshold_percent", "ignored", "reason")

    @admin.display(description="metric", ordering="benchmark")
    def name(self, metric: Metric) -> str:
        return label(metric)

    @admin.display(description="suspect beyond", ordering="threshold_percent")
    def threshold(self, metric: Metric) -> str:
        percent = metric.threshold_percent
        return f"{10 if percent is None else percent:g} %"

    @admin.display(description="trend")
    def trend(self, metric: Metric) -> SafeString:
        url = f"{reverse('admin:benchmarks_trends')}?metric={metric.pk}"
        return format_html('<a class="underline" href="{}">Trend</a>', url)

    def save_model(self, request: HttpRequest, obj: Metric, form: Any, change: bool) -> None:
        """Through the functions that also say so in the log, and close what is open."""
        user: Any = request.user
        if "threshold_percent" in form.changed_data:
            handling.set_threshold(obj, user, form.cleaned_data["threshold_percent"])
        if "ignored" not in form.changed_data:
            return
        if form.cleaned_data["ignored"]:
            handling.ignore_metric(obj, user, form.cleaned_data["reason"])
        else:
            handling.judge_metric(obj, user)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Logged already, in words."""
        return None

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.trends_view)
        return [path("trends/", view, name="benchmarks_trends"), *super().get_urls()]

    def trends_view(self, request: HttpRequest) -> HttpResponseBase:
        """One metric over its runs, with its baseline, its changes and edits of limits."""
        self.require(request, "view")
        metrics = list(Metric.objects.order_by("suite", "benchmark", "metric", "contestant", "pk"))
        places = {}
        metric = _metric(request.GET.get("metric"), metrics)
        if metric is not None:
            places = _places(metric)
        if metric is None or not places:
            return self.page(request, "benchmarks/trends.html", "Trends", metric=metric, empty=True)
        chosen = _chosen(request, metric, places)
        series = chosen.series()
        if request.GET.get("format") == "csv":
            return _csv(chosen, series.points)
        form = ChoiceForm(
            initial={
                "metric": metric.pk,
                "machine": chosen.machine.pk,
                "branch": chosen.branch,
                "period": chosen.period,
            }
        )
        form.fields["metric"].choices = _by_suite(metrics)  # type: ignore[attr-defined]
        machines = {machine.pk: str(machine) for machine, _ in places}
        form.fields["machine"].choices = list(machines.items())  # type: ignore[attr-defined]
        branches = sorted({branch for _, branch in places})
        form.fields["branch"].choices = [  # type: ignore[attr-defined]
            (branch, branch or "(no branch)") for branch in branches
        ]
        return self.page(
            request,
            "benchmarks/trends.html",
            "Trends",
            form=form,
            chosen=chosen,
            metric=metric,
            metric_label=label(metric),
            series=series,
            verdict=verdict(series),
            **(_drawn(request, series) if series.points else {}),
        )


def _drawn(request: HttpRequest, series: Series) -> dict[str, Any]:
    points = series.points
    flagged = [place for place, point in enumerate(points) if point.run in series.flagged]
    drawn = thin([point.median for point in points], keep=[*flagged, *series.change_points])
    may_see = request.user.has_perm("ratelimits.view_ratelimit")
    happened = happenings(points[0].at, timezone.now(), limits=may_see)
    levels = set(series.change_points)
    return {
        "drawn": len(drawn),
        "chart_data": chart.data(series, drawn, happened),
        "chart_options": chart.options(series, drawn),
        "happened": happened,
        "newest": points[-1],
        "baseline_mad": _mad(series),
        "baseline_n": len(series.baseline),
        "levels": [
            (points[place], *series.levels(place), _change(series, place))
            for place in reversed(series.change_points)
        ],
        "rows": [
            (points[place], series.flagged.get(points[place].run), place in levels)
            for place in reversed(drawn)
        ],
    }


def _mad(series: Series) -> float | None:
    return statistics.mad(series.baseline) if series.baseline else None


def _change(series: Series, place: int) -> str:
    before, after = series.levels(place)
    return change(after, before, series.metric)


def label(metric: Metric) -> str:
    """With those of its parameters that its name does not say."""
    said = {"benchmark", "contestant"}
    parameters = [
        f"{name}={value}" for name, value in metric.parameters.items() if name not in said
    ]
    return ", ".join([str(metric), *parameters])


def _metric(asked: str | None, metrics: list[Metric]) -> Metric | None:
    """The one asked for; else the one that went furthest wrong; else the last that was measured."""
    known = {str(metric.pk): metric for metric in metrics}
    if asked in known:
        return known[asked]
    found = Regression.objects.filter(state__in=Regression.OPEN, better=False)
    worst = max(found, key=badness, default=None)
    if worst is not None:
        return known.get(str(worst.metric_id))
    newest = Measurement.objects.order_by("-pk").values_list("metric", flat=True).first()
    return known.get(str(newest)) or next(iter(metrics), None)


def _places(metric: Metric) -> dict[tuple[Machine, str], None]:
    """Machines and branches that the metric was measured on; an index alone answers it."""
    pairs = (
        Measurement.objects.filter(metric=metric)
        .order_by("machine", "branch")
        .values_list("machine", "branch")
        .distinct()
    )
    machines = Machine.objects.in_bulk([machine for machine, _ in pairs])
    return {(machines[machine], branch): None for machine, branch in pairs}


def _chosen(
    request: HttpRequest, metric: Metric, places: dict[tuple[Machine, str], None]
) -> Chosen:
    """What was asked for; of what was not, where it is worst, else where it was measured last."""
    machine, branch = request.GET.get("machine"), request.GET.get("branch")
    period = request.GET.get("period", PERIOD)
    fitting = [
        (one, name)
        for one, name in places
        if machine in (None, str(one.pk)) and branch in (None, name)
    ]
    by_id = {(one.pk, name): (one, name) for one, name in fitting or places}
    found = Regression.objects.filter(metric=metric, state__in=Regression.OPEN, better=False)
    worst = [one for one in found if (one.machine_id, one.branch) in by_id]
    if len(by_id) == 1:
        (of,) = by_id.values()
    elif worst:
        first = max(worst, key=badness)
        of = by_id[first.machine_id, first.branch]
    else:
        of = by_id[max(by_id, key=lambda place: _last_taken(metric, *place))]
    note = "" if fitting else "It was not measured there: shown is where it was last."
    return Chosen(metric, *of, period if period in PERIODS else PERIOD, note)


def _last_taken(metric: Metric, machine: int, branch: str) -> datetime:
    taken = Measurement.objects.filter(metric=metric, machine=machine, branch=branch)
    return taken.order_by("-taken_at").values_list("taken_at", flat=True)[0]


def _by_suite(metrics: Iterable[Metric]) -> list[tuple[str, list[tuple[int, str]]]]:
    groups: dict[str, list[tuple[int, str]]] = {}
    for metric in metrics:
        groups.setdefault(metric.suite, []).append((metric.pk, label(metric)))
    return list(groups.items())


def _csv(chosen: Chosen, points: Iterable[Point]) -> HttpResponse:
    """Every run of the period: nothing is thinned."""
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="trend-{chosen.metric.pk}.csv"'
    table = csv.writer(response)
    unit = chosen.metric.unit
    table.writerow(
        ["time", "run", "commit", "dirty", "trigger", f"median ({unit})", f"mad ({unit})"]
    )
    for point in points:
        table.writerow(
            [
                point.at.isoformat(),
                point.run,
                _inert(point.commit),
                int(point.dirty),
                point.trigger,
                point.median,
                point.mad,
            ]
        )
    return response


def _inert(text: str) -> str:
    """No spreadsheet takes it for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
