"""The doctor: what is wrong, on what evidence, and how it is mended. Made by a worker and kept, so
that the page never waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

from apps.ratelimits.storage.server_findings import Level

from .. import diagnosing
from ..models import Diagnosis
from ..registry import Topic

PAGE = "admin:monitoring_diagnosis_changelist"
EARLIER = 15
MAY_RUN = "monitoring.run_doctor"
LIMITS = ("Limits", "admin:ratelimits_ratelimit_changelist", "ratelimits.view_ratelimit")
SWEEPS = ("Clean-up", "admin:ratelimits_sweeprun_changelist", "ratelimits.view_sweeprun")
TASKS = (
    "Periodic tasks",
    "admin:django_celery_beat_periodictask_changelist",
    "django_celery_beat.view_periodictask",
)
CURES = {
    **dict.fromkeys(
        ("one-limit-denies", "always-denies", "never-matches", "over-budget", "version-behind"),
        LIMITS,
    ),
    **dict.fromkeys(
        ("sweep-failed", "sweep-behind", "keys-without-ttl", "keys-of-deleted-limits"), SWEEPS
    ),
    **dict.fromkeys(("sweep-never", "sweep-old", "tasks-off"), TASKS),
}
"""By code, the page that mends it: its title, its address, whose it is."""

LABELS = {Level.ERROR: "Error", Level.WARNING: "Warning", Level.UNKNOWN: "Unknown"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A finding, and the page that mends it, where this person may see that."""

    finding: Mapping[str, str]
    part: str
    label: str
    page: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Section:
    """What was found about one topic, the worst first; ``fine`` is information."""

    topic: str
    wrong: Sequence[Shown]
    fine: Sequence[Shown]
    said: str


@admin.register(Diagnosis)
class DiagnosisAdmin(ModelAdmin):  # type: ignore[misc]
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        return [
            path("run/", wrap(require_POST(self.run_view)), name="monitoring_run_doctor"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The newest diagnosis, or with ``?id=`` an earlier one."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        Diagnosis.settle(timezone.now())
        newest = Diagnosis.objects.first()
        done = Diagnosis.objects.filter(state=Diagnosis.State.DONE).select_related("requested_by")
        wanted = request.GET.get("id", "")
        if wanted and not (wanted.isdecimal() and len(wanted) < 18):
            raise Http404
        shown = get_object_or_404(done, pk=wanted) if wanted else done.first()
        counts = shown.counts() if shown else Counter[str]()
        waiting = newest if newest and newest.waits else None
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": "Doctor",
            "media": self.media
            + forms.Media(css={"all": ["benchmarks/pages.css", "monitoring/doctor.css"]}),
            "shown": shown,
            "earlier_one": bool(wanted),
            "verdict": verdict(counts) if shown else "",
            "level": next((level for level in Level if counts[level]), Level.INFO),
            "sections": sections(shown.outcomes, request) if shown else [],
            "waiting": waiting,
            "percent": round(100 * waiting.done / waiting.total)
            if waiting and waiting.total
            else 0,
            "unlucky": newest if newest and newest.state == Diagnosis.State.LOST else None,
            "may_run": request.user.has_perm(MAY_RUN),
            "earlier": [(one, in_words(one.counts())) for one in done[:EARLIER]],
            **(extra_context or {}),
        }
        return TemplateResponse(request, "monitoring/doctor.html", context)

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        """Links of the admin's own (its history, say) lead to the page too."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return HttpResponseRedirect(f"{reverse(PAGE)}?id={object_id}")

    def run_view(self, request: HttpRequest) -> HttpResponse:
        """A diagnosis is queued."""
        if not (self.has_view_permission(request) and request.user.has_perm(MAY_RUN)):
            raise PermissionDenied
        try:
            made = diagnosing.ask(request.user)  # type: ignore[arg-type]
        except ValueError as error:
            messages.error(request, str(error))
        else:
            self.log_addition(request, made, "Asked for.")
        return HttpResponseRedirect(reverse(PAGE))


def sections(outcomes: Sequence[Mapping[str, Any]], request: HttpRequest) -> list[Section]:
    """By the guide's three headings, in its order."""
    order = list(Level)
    found = []
    for topic in Topic:
        parts = [part for part in outcomes if part["topic"] == topic]
        rows = [(part["title"], one) for part in parts for one in part["findings"]]
        rows.sort(key=lambda row: order.index(Level(row[1]["level"])))
        shown = [_shown(title, one, request) for title, one in rows]
        wrong = [one for one in shown if one.label]
        fine = [one for one in shown if not one.label]
        counts = Counter(str(one["level"]) for _, one in rows)
        found.append(Section(str(topic), wrong, fine, in_words(counts) if parts else ""))
    return found


def _shown(title: str, finding: Mapping[str, str], request: HttpRequest) -> Shown:
    page = None
    label, address, permission = CURES.get(finding["code"], ("", "", ""))
    if address and request.user.has_perm(permission):
        try:
            page = (label, reverse(address))
        except NoReverseMatch:  # that app has no such page here
            page = None
    return Shown(finding, title, LABELS.get(Level(finding["level"]), ""), page)


def in_words(counts: Mapping[str, int]) -> str:
    """``2 errors, 1 warning``; of nothing worse than information, that."""
    said = [
        f"{counts[level]:,} {word}{'' if counts[level] == 1 else plural}"
        for level, word, plural in (
            (Level.ERROR, "error", "s"),
            (Level.WARNING, "warning", "s"),
            (Level.UNKNOWN, "unknown", ""),
        )
        if counts.get(level)
    ]
    return ", ".join(said) or "nothing wrong"


def verdict(counts: Mapping[str, int]) -> str:
    if not any(counts.get(level) for level in LABELS):
        return "Nothing to do: no part of the diagnosis found anything wrong."
    if not counts.get(Level.ERROR) and not counts.get(Level.WARNING):
        return f"Nothing wrong was found, but not all could be looked at: {in_words(counts)}."
    return f"To be mended, the worst first: {in_words(counts)}."
