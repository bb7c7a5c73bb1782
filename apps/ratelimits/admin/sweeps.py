"""The clean-up: whether it keeps up, what it will do, its last runs, and the buttons."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery import current_app
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST
from kombu.exceptions import OperationalError

from ..models import RateLimit, SweepRun
from ..storage.sweep import RATE_PER_S
from .base import ModelAdmin

LIST = "admin:ratelimits_sweeprun_changelist"
TASK = "ratelimits.sweep"
BUDGET_S = 10
EXPIRES_S = 300
"""A message that no worker takes by then is dropped: nobody waits for it any more."""
PER_PAGE = 25
MOST_LIMITS = 20
State = SweepRun.State


@dataclass(frozen=True, slots=True)
class Whole:
    """A pass, or what there is of it: the sums of its runs."""

    runs: int
    began: datetime
    ended: datetime | None
    is_done: bool
    dry_run: bool
    seen: int
    removed: int
    records: int
    freed_bytes: int
    keys: int
    identities: Counter[str]

    @property
    def is_clean(self) -> bool:
        return not self.removed and not self.records


def whole(last: SweepRun | None) -> Whole | None:
    """The pass of a run."""
    if last is None:
        return None
    runs = list(SweepRun.objects.filter(dry_run=last.dry_run, pass_number=last.pass_number))
    identities: Counter[str] = Counter()
    for run in runs:
        identities.update(run.identities)
    return Whole(
        runs=len(runs),
        began=runs[-1].started_at,
        ended=runs[0].ended_at,
        is_done=runs[0].is_last,
        dry_run=last.dry_run,
        seen=sum(run.seen for run in runs),
        removed=sum(run.keys_removed for run in runs),
        records=sum(run.records for run in runs),
        freed_bytes=sum(run.freed_bytes for run in runs),
        keys=runs[0].keys,
        identities=identities,
    )


def ask_for(user_pk: int | None, *, dry_run: bool) -> None:
    """Raises ValueError where it cannot be started."""
    other = SweepRun.objects.filter(state=State.RUNNING).first()
    if other is not None:
        raise ValueError(f"Not started: {other} is under way.")
    options: dict[str, Any] = {"dry_run": dry_run, "budget_s": BUDGET_S, "requested_by": user_pk}
    options["trigger"] = str(SweepRun.Trigger.STAFF)
    try:
        # A connection of its own: the pool's would try for seconds, while the page waits.
        with current_app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
            current_app.send_task(
                TASK, kwargs=options, connection=connection, retry=False, expires=EXPIRES_S
            )
    except OperationalError as error:
        raise ValueError("Not started: Celery's broker does not answer.") from error


@admin.register(SweepRun)
class SweepRunAdmin(ModelAdmin):  # type: ignore[misc]
    """Rows come from the sweeper; staff look, start and stop."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        return [
            path("run-now/", wrap(require_POST(self.run_now_view)), name="ratelimits_sweep_now"),
            path(
                "<int:pk>/stop/", wrap(require_POST(self.stop_view)), name="ratelimits_sweep_stop"
            ),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        if not self.has_view_permission(request):
            raise PermissionDenied
        ended = SweepRun.objects.exclude(state=State.RUNNING)
        done = whole(ended.filter(dry_run=False, is_last=True).first())
        counted = whole(ended.filter(dry_run=True).exclude(seen=0).first())
        last = ended.filter(dry_run=False).first()
        begun = whole(last) if last is not None and not last.is_last else None
        newest = max((each for each in (done, counted) if each), key=_began, default=None)
        running = SweepRun.objects.filter(state=State.RUNNING).first()
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Clean-up",
            "media": self.media + forms.Media(css={"all": ["ratelimits/sweeps.css"]}),
            "running": running,
            "percent": _percent(running),
            "done": done,
            "counted": counted,
            "begun": begun,
            "limits": _limits(newest),
            "newest": newest,
            "rows": Paginator(SweepRun.objects.all(), PER_PAGE).get_page(request.GET.get("p")),
            "may_run": self._may_run(request),
            "budget_s": BUDGET_S,
            "rate": f"{RATE_PER_S:,}",
        }
        return TemplateResponse(request, "ratelimits/sweeps.html", context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponseBase:
        """All there is of a run is on the list."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return HttpResponseRedirect(reverse(LIST))

    def run_now_view(self, request: HttpRequest) -> HttpResponse:
        """A clean-up is queued."""
        self._require(request)
        dry_run = request.POST.get("what") == "count"
        user: Any = request.user
        try:
            ask_for(user.pk, dry_run=dry_run)
        except ValueError as error:
            messages.error(request, str(error))
        else:
            what = "Counting" if dry_run else "Sweeping"
            messages.success(
                request, f"{what} begins when a worker takes it; it is on this page then."
            )
        return HttpResponseRedirect(reverse(LIST))

    def stop_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A clean-up is stopped: the sweeper looks at the state twice a second."""
        self._require(request)
        run = get_object_or_404(SweepRun, pk=pk)
        stopped = SweepRun.objects.filter(pk=pk, state=State.RUNNING).update(
            state=State.STOPPED, ended_at=timezone.now()
        )
        if stopped:
            self.log_change(request, run, "Stopped.")
            messages.success(request, "Stopped: what it removed is gone, the next goes on there.")
        else:
            messages.error(request, f"There is nothing to stop: {run} has ended.")
        return HttpResponseRedirect(reverse(LIST))

    def _may_run(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.has_perm("ratelimits.run_sweeprun"))

    def _require(self, request: HttpRequest) -> None:
        if not (self._may_run(request) and self.has_view_permission(request)):
            raise PermissionDenied


def _began(each: Whole) -> datetime:
    return each.began


def _percent(run: SweepRun | None) -> int:
    """Of the servers' keys, of which some may be others': never more than there is."""
    if run is None or not run.keys:
        return 0
    seen: int = sum(place["seen"] for place in run.places)
    return min(100, round(100 * seen / run.keys))


def _limits(newest: Whole | None) -> list[tuple[str, int]]:
    """By name, the largest first."""
    if newest is None:
        return []
    names = {str(pk): name for pk, name in RateLimit.objects.values_list("pk", "name")}
    return [
        (names.get(number, f"limit {number}, which is gone"), count)
        for number, count in newest.identities.most_common(MOST_LIMITS)
    ]
