"""Regressions: what is open, the worst first, with its evidence and what staff can do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.views.decorators.http import require_POST

from apps.ratelimits.buttons import attempt, back

from .. import handling
from .. import regression as rule
from ..models import BenchmarkRun, Regression
from ..series import badness, change
from . import actions
from .base import PageAdmin

State = Regression.State
LIST = "admin:benchmarks_regression_changelist"
MAY_RUN = "benchmarks.add_benchmarkrun"
CLOSED = 25
"""On a page of what is over."""

Decision = Callable[[Regression, Any, str], object]
DECISIONS: dict[str, tuple[Decision, str]] = {
    "acknowledge": (handling.acknowledge, "Acknowledged: it stays open, and is not told again."),
    "accept": (handling.accept_as_baseline, "Accepted: the series begins anew with that run."),
    "ignore": (handling.ignore, "Ignored: it is not opened again at this level."),
}


@admin.register(Regression)
class RegressionAdmin(PageAdmin):
    def get_urls(self) -> list[Any]:
        decide = self.admin_site.admin_view(require_POST(self.decide_view))
        measure = self.admin_site.admin_view(require_POST(self.measure_view))
        return [
            path("<int:pk>/decide/", decide, name="benchmarks_decide"),
            path("<int:pk>/measure/", measure, name="benchmarks_measure"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        self.require(request, "view")
        rows = Regression.objects.select_related("metric", "machine", "run", "handled_by")
        found = sorted(rows.filter(state__in=Regression.OPEN), key=_order)
        _reruns(found)
        over = rows.exclude(state__in=Regression.OPEN).order_by("-closed_at", "-pk")
        page = Paginator(over, CLOSED).get_page(request.GET.get("p"))
        return self.page(
            request,
            "benchmarks/regressions.html",
            "Regressions",
            worse=[_Shown(one) for one in found if not one.better],
            better=[_Shown(one) for one in found if one.better],
            closed=page,
            closed_rows=[_Shown(one) for one in page],
            may_decide=self.may(request, "change"),
            may_run=request.user.has_perm(MAY_RUN),
            least=rule.LEAST,
            here=request.get_full_path(),
            ever=bool(found) or bool(page.paginator.count) or BenchmarkRun.objects.exists(),
        )

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponseBase:
        """Its place in the list."""
        self.require(request, "view")
        return HttpResponseRedirect(f"{reverse(LIST)}#regression-{object_id}")

    def decide_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """An open regression is acknowledged, accepted with a reason, or ignored."""
        self.require(request, "change")
        regression = get_object_or_404(Regression, pk=pk)
        chosen = request.POST.get("decision", "")

        def decide() -> None:
            if chosen not in DECISIONS:
                raise ValueError(f"Choose one of {', '.join(DECISIONS)}.")
            DECISIONS[chosen][0](regression, request.user, request.POST.get("reason", ""))

        attempt(request, decide, DECISIONS[chosen][1] if chosen in DECISIONS else "")
        return back(request, reverse(LIST))

    def measure_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What looks slower is measured again: the permission is that of the button Run now."""
        self.require(request, "view")
        if not request.user.has_perm(MAY_RUN):
            raise PermissionDenied
        regression = get_object_or_404(Regression, pk=pk)
        user: Any = request.user

        def start() -> None:
            run = actions.measure_again(regression, user)
            self.log_addition(request, run, f"Asked for: {regression.metric} again.")

        attempt(request, start, f"{regression.metric.benchmark} waits for a worker.")
        return back(request, reverse(LIST))


def _order(regression: Regression) -> tuple[float, int]:
    return -badness(regression), regression.pk


def _reruns(found: list[Regression]) -> None:
    """How many of each suspect's reruns have ended, in one query."""
    runs = {one.run_id for one in found if one.state == State.SUSPECTED}
    ended: dict[int | None, list[int]] = {}
    rows = BenchmarkRun.objects.filter(Q(rerun_of__in=runs)).values_list("rerun_of", "state")
    waiting = (BenchmarkRun.State.QUEUED, BenchmarkRun.State.RUNNING)
    for run, state in rows:
        counted = ended.setdefault(run, [0, 0])
        counted[0] += state not in waiting
        counted[1] += 1
    for one in found:
        done, of = ended.get(one.run_id, (0, 0))
        one.progress = f"{done} of {of} reruns done" if of else ""  # type: ignore[attr-defined]


class _Shown:
    """A regression with its evidence, as the template needs it."""

    def __init__(self, regression: Regression) -> None:
        self.row = regression
        evidence = regression.evidence
        self.new = evidence.get("new_median")
        self.old = evidence.get("baseline_median")
        self.mad = evidence.get("mad")
        self.n = evidence.get("n")
        self.new_n = evidence.get("new_n")
        self.beyond = evidence.get("beyond")
        self.times = badness(regression)
        if self.new is not None and self.old:
            self.change = change(self.new, self.old, regression.metric)
        else:
            self.change = f"{self.times:.2f} times as {'good' if regression.better else 'bad'}"
        self.progress = getattr(regression, "progress", "")
        self.suspected = regression.state == State.SUSPECTED
        self.level = "suspect" if self.suspected else "bad"
        if regression.better:
            self.level = "good"
        self.label = State(regression.state).label
