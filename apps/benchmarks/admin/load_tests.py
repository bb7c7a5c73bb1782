"""Load tests: started against a site that the configuration lists, watched, and stopped."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldBooleanWidget,
)

from apps.ratelimits.buttons import attempt

from ..load_test import LoadTest
from ..load_testing import refusal
from ..queueing import enqueue_load_test
from .base import WorkAdmin

State = LoadTest.State
LIST = "admin:benchmarks_loadtest_changelist"
TEST = "admin:benchmarks_loadtest_change"


class StartForm(forms.Form):
    """What a load test is asked with; its bounds are those of the configuration."""

    target = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    users = forms.IntegerField(min_value=1, initial=50, widget=UnfoldAdminIntegerFieldWidget)
    seconds = forms.IntegerField(min_value=1, initial=60, widget=UnfoldAdminIntegerFieldWidget)
    per_s = forms.IntegerField(
        min_value=1,
        max_value=1_000,
        initial=10,
        label="users that begin per second",
        widget=UnfoldAdminIntegerFieldWidget,
    )
    shape = forms.ChoiceField(
        choices=LoadTest.Shape.choices, required=False, widget=UnfoldAdminSelectWidget
    )
    same_limits = forms.BooleanField(
        required=False,
        initial=True,
        label="the target has this site's limits",
        help_text="Then every admission and denial is checked against them.",
        widget=UnfoldBooleanWidget,
    )
    own_addresses = forms.BooleanField(
        required=False,
        label="each user has an address of its own",
        help_text="Only where the target has the worker's machine in IOTA_TRUSTED_PROXIES.",
        widget=UnfoldBooleanWidget,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        targets = settings.IOTA_LOADTEST_TARGETS
        self.fields["target"].choices = [(one, one) for one in targets]  # type: ignore[attr-defined]
        for name, most in (
            ("users", settings.IOTA_LOADTEST_MAX_USERS),
            ("seconds", settings.IOTA_LOADTEST_MAX_SECONDS),
        ):
            field: Any = self.fields[name]
            field.initial = min(field.initial, most)
            field.widget.attrs["max"] = most
            field.help_text = f"{most:,} at most"


@admin.register(LoadTest)
class LoadTestAdmin(WorkAdmin):
    list_display = ("test", "shown_state", "shown_verdict", "what", "target", "asked", "took")
    list_filter = ("state", "verdict", "target")
    list_before_template = "benchmarks/load_test_start.html"

    @admin.display(description="load test", ordering="pk")
    def test(self, test: LoadTest) -> str:
        return f"Load test {test.pk}"

    @display(  # type: ignore[untyped-decorator]
        description="verdict",
        ordering="verdict",
        label={"Met": "success", "Missed": "danger", "Invalid": "warning"},
    )
    def shown_verdict(self, test: LoadTest) -> str:
        return str(test.get_verdict_display())

    @admin.display(description="what")
    def what(self, test: LoadTest) -> str:
        return what(test)

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        start, stop = require_POST(self.start_view), require_POST(self.stop_view)
        return [
            path("start/", wrap(start), name="benchmarks_load_start"),
            path("<int:pk>/stop/", wrap(stop), name="benchmarks_load_stop"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        waiting = LoadTest.objects.filter(state__in=LoadTest.WAITING)
        context = {
            "title": "Load tests",
            "form": StartForm(),
            "targets": settings.IOTA_LOADTEST_TARGETS,
            "may_start": self.may(request, "add"),
            "may_stop": self.may(request, "change"),
            "waiting": waiting.order_by("queued_at")[:5],
            "no_test": not LoadTest.objects.exists(),
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)  # type: ignore[no-any-return]

    def start_view(self, request: HttpRequest) -> HttpResponse:
        """Queues a load test, and goes to its page; one at a time."""
        self.require(request, "add")
        made: list[LoadTest] = []

        def start() -> None:
            made.append(started(StartForm(request.POST), request.user.pk))
            self.log_addition(request, made[0], f"Asked for: {what(made[0])}.")

        attempt(request, start, "The load test waits for a worker.")
        if made:
            return HttpResponseRedirect(reverse(TEST, args=[made[0].pk]))
        return HttpResponseRedirect(reverse(LIST))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponseBase:
        """One is looked at, never edited."""
        self.require(request, "view")
        test = self.get_object(request, object_id)
        if test is None:
            raise Http404
        gone_s = (timezone.now() - test.started_at).total_seconds() if test.started_at else 0.0
        return self.page(
            request,
            "benchmarks/load_test.html",
            f"Load test {test.pk}",
            test=test,
            what=what(test),
            percent=min(100, round(100 * gone_s / test.seconds)),
            progress=test.progress,
            may_stop=self.may(request, "change"),
        )


def started(form: StartForm, user_pk: int | None) -> LoadTest:
    """Raises ValueError for what must not be, or while one waits or runs already."""
    if not form.is_valid():
        about, errors = next(iter(form.errors.items()))
        raise ValueError(f"{form.fields[about].label or about}: {errors[0]}".capitalize())
    given = form.cleaned_data
    if why := refusal(given["target"], given["users"], given["seconds"]):
        raise ValueError(f"Not started: {why}")
    other = LoadTest.objects.filter(state__in=LoadTest.WAITING).first()
    if other is not None:
        raise ValueError(f"Not started: {other} is not over yet.")
    made = LoadTest.objects.create(**given, requested_by_id=user_pk)
    # Two that were asked for at the same moment: the later one is not.
    if LoadTest.objects.filter(state__in=LoadTest.WAITING, pk__lt=made.pk).exists():
        made.delete()
        raise ValueError("Not started: another one was asked for at the same moment.")
    enqueue_load_test(made)
    return made


def what(test: LoadTest) -> str:
    shape = f", {test.shape}" if test.shape else ""
    return f"{test.users:,} users for {test.seconds:,} s{shape}"
