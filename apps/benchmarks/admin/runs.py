"""Runs: the list with its button, a run's own page, and two runs beside each other."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.views.decorators.http import require_POST

from apps.ratelimits.buttons import attempt

from .. import comparison
from ..models import BenchmarkRun
from ..sets import SETS
from ..strip import strip
from . import actions
from .base import WorkAdmin

State = BenchmarkRun.State
LIST = "admin:benchmarks_benchmarkrun_changelist"
RUN = "admin:benchmarks_benchmarkrun_change"
OTHERS = 30
"""Earlier runs that are offered for a comparison."""


@admin.register(BenchmarkRun)
class BenchmarkRunAdmin(WorkAdmin):
    list_display = ("run", "shown_state", "what", "trigger", "of", "branch", "on", "asked", "took")
    list_filter = ("state", "trigger", "set_name", "branch", "machine")
    list_select_related = ("machine",)
    search_fields = ("commit", "branch", "note")
    list_before_template = "benchmarks/run_now.html"
    lost = ": nothing of it is kept"

    @admin.display(description="run", ordering="pk")
    def run(self, run: BenchmarkRun) -> str:
        return f"Run {run.pk}"

    @admin.display(description="what")
    def what(self, run: BenchmarkRun) -> str:
        return what(run)

    @admin.display(description="commit", ordering="commit")
    def of(self, run: BenchmarkRun) -> str:
        return commit_of(run)

    @admin.display(description="machine", ordering="machine")
    def on(self, run: BenchmarkRun) -> str:
        return str(run.machine or "")

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        return [
            path("run-now/", wrap(require_POST(self.run_now_view)), name="benchmarks_run_now"),
            path("<int:pk>/stop/", wrap(require_POST(self.stop_view)), name="benchmarks_stop"),
            path("<int:pk>/again/", wrap(require_POST(self.again_view)), name="benchmarks_again"),
            path("compare/", wrap(self.compare_view), name="benchmarks_compare"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        waiting = BenchmarkRun.objects.filter(state__in=BenchmarkRun.WAITING)
        context = {
            "title": "Benchmark runs",
            "sets": SETS,
            "may_run": self.may(request, "add"),
            "may_stop": self.may(request, "change"),
            "waiting": waiting.order_by("queued_at")[:5],
            "no_run": not BenchmarkRun.objects.exists(),
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)  # type: ignore[no-any-return]

    def run_now_view(self, request: HttpRequest) -> HttpResponse:
        """A run of a set is queued."""
        self.require(request, "add")
        name = request.POST.get("set", "")

        def start() -> None:
            run = actions.run_now(name, request.user)  # type: ignore[arg-type]
            self.log_addition(request, run, f"Asked for: set {name}.")

        attempt(request, start, f"The {name} set waits for a worker.")
        return HttpResponseRedirect(reverse(LIST))

    def again_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What a run measured is queued once more."""
        self.require(request, "add")
        run = get_object_or_404(BenchmarkRun, pk=pk)
        made: list[BenchmarkRun] = []

        def start() -> None:
            made.append(actions.run_again(run, request.user))  # type: ignore[arg-type]
            self.log_addition(request, made[0], f"Asked for: as {run}.")

        attempt(request, start, "The same benchmarks wait for a worker.")
        return HttpResponseRedirect(reverse(RUN, args=[made[0].pk if made else pk]))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponseBase:
        """A run is looked at, never edited."""
        self.require(request, "view")
        run = self.get_object(request, object_id)
        if run is None:
            raise Http404
        rows = run.measurements.select_related("metric").order_by(
            "metric__suite", "metric__benchmark", "metric__metric", "metric__contestant"
        )
        others = BenchmarkRun.objects.filter(machine=run.machine, state=State.DONE)
        return self.page(
            request,
            "benchmarks/run.html",
            f"Run {run.pk}",
            run=run,
            what=what(run),
            commit=commit_of(run),
            waits=run.state in (State.QUEUED, State.RUNNING),
            percent=round(100 * run.done / run.total) if run.total else 0,
            machine=sorted(run.machine.fields.items()) if run.machine else [],
            rows=[(row, strip(row.samples, row.p50)) for row in rows],
            others=others.exclude(pk=run.pk).order_by("-pk")[:OTHERS] if run.machine else [],
            regressions=run.regressions.select_related("metric"),
            reruns=BenchmarkRun.objects.filter(rerun_of=run).order_by("pk"),
            may_run=self.may(request, "add"),
            may_stop=self.may(request, "change"),
        )

    def compare_view(self, request: HttpRequest) -> HttpResponse:
        """Two runs beside each other: ``?run=12&with=9``, or without ``with`` for the baseline."""
        self.require(request, "view")
        runs = BenchmarkRun.objects.select_related("machine")
        new = get_object_or_404(runs, pk=_number(request.GET.get("run")))
        other = request.GET.get("with", "")
        old = get_object_or_404(runs, pk=_number(other)) if other else None
        found, refused = None, ""
        try:
            found = comparison.compare(new, old) if old else comparison.against_baseline(new)
        except comparison.NotComparable as error:
            refused = str(error)
        return self.page(
            request,
            "benchmarks/compare.html",
            f"Run {new.pk} beside {f'run {old.pk}' if old else 'its baseline'}",
            new=new,
            old=old,
            found=found,
            refused=refused,
        )


def _number(text: str | None) -> int:
    if not text or not text.isdecimal() or len(text) > 18:
        raise Http404("no such run")
    return int(text)


def what(run: BenchmarkRun) -> str:
    """The set, or the first few of the benchmarks that were named."""
    if run.set_name:
        return f"{run.set_name} set"
    names = [str(name) for name in run.chosen]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def commit_of(run: BenchmarkRun) -> str:
    if not run.commit:
        return ""
    return f"{run.commit[:7]}{', edited files' if run.dirty else ''}"
