"""Preview, beside Save: what the limit in the form would have done to the recorded requests.

The button posts the form to an address of its own, which saves nothing: without a script the form
comes back with the panel, with one the panel alone is put into its place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from celery import current_app
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import path, reverse
from kombu.exceptions import OperationalError

from .. import conf, previewing, ruleset, wording
from ..models import PreviewRun, RateLimit
from ..policy.errors import PolicyError
from ..policy.preview import from_json
from ..policy.rules import Rule
from ..storage.errors import Unavailable
from .preview_words import Panel, panel_of

TASK = "ratelimits.preview"
EXPIRES_S = 300
PANEL = "ratelimits/preview.html"
INVALID = 422


@dataclass(frozen=True, slots=True)
class Shown:
    """``run``: of a worker that is not done yet."""

    panel: Panel | None = None
    run: PreviewRun | None = None
    problem: str = ""
    url: str = ""
    minutes: int = 0


class PreviewsLimits:
    """For the admin of the limits: who may save the form may try it."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.preview_view)  # type: ignore[attr-defined]
        return [
            path("add/preview/", view, name="ratelimits_preview_add"),
            path("<int:object_id>/preview/", view, name="ratelimits_preview"),
            *super().get_urls(),  # type: ignore[misc]
        ]

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)  # type: ignore[misc]
        return _never_saved(form) if hasattr(request, "_previews") else form

    def preview_view(self, request: HttpRequest, object_id: int | None = None) -> HttpResponseBase:
        """The form's page with the panel; the panel alone for whoever asks for it."""
        limit = RateLimit.objects.filter(pk=object_id).first() if object_id else None
        if object_id and limit is None:
            raise Http404
        may = (
            self.has_change_permission(request, limit)  # type: ignore[attr-defined]
            if limit
            else self.has_add_permission(request)  # type: ignore[attr-defined]
        )
        if not may:
            raise PermissionDenied
        form_url = (
            reverse("admin:ratelimits_ratelimit_change", args=(object_id,))
            if object_id
            else reverse("admin:ratelimits_ratelimit_add")
        )
        if request.method != "POST":
            return HttpResponseRedirect(form_url)
        key = str(object_id) if object_id else None
        if not request.POST.keys().isdisjoint(("_save", "_continue", "_addanother")):
            # The theme's script sends the form to the page's own address.
            request.path = form_url
            return self.changeform_view(request, key, form_url)  # type: ignore[attr-defined,no-any-return]
        request._previews = True  # type: ignore[attr-defined]
        page = self.changeform_view(request, key, form_url)  # type: ignore[attr-defined]
        form = page.context_data["adminform"].form
        wrong = any(name != "lock_out" for name in form.errors)
        alone = request.headers.get("X-Preview") == "panel"
        if wrong:
            if alone:
                return HttpResponse(status=INVALID)
            return page  # type: ignore[no-any-return]
        shown = replace(
            self._shown_preview(request, form, limit),
            url=request.path,
            minutes=conf.current().traffic_minutes,
        )
        if alone:
            return render(request, PANEL, {"shown": shown})
        page.context_data["shown"] = shown
        # As the form has it now.
        groups = form.cleaned_data.get("groups", ())
        page.context_data["sentence"] = wording.sentence(form.instance, groups)
        return page  # type: ignore[no-any-return]

    def _shown_preview(self, request: HttpRequest, form: Any, limit: RateLimit | None) -> Shown:
        user: Any = request.user
        previewing.mark_lost()
        if "preview_stop" in request.POST:
            previewing.stop(_number(request.POST["preview_stop"]), user.pk)
            return Shown(problem="Stopped: nothing was counted to its end.")
        if not conf.current().traffic_records:
            return Shown(
                problem="No requests are recorded: IOTA_TRAFFIC_RECORDS is 0. With another number "
                "and a restart, what comes from then on can be tried."
            )
        try:
            if "preview_run" in request.POST:
                own = PreviewRun.objects.filter(requested_by=user.pk)
                return _of_run(own.filter(pk=_number(request.POST["preview_run"])).first())
            draft = ruleset.draft(form.instance, form.cleaned_data.get("groups", ()))
            now = previewing.as_it_is(limit.pk if limit else None)
            traffic = previewing.recorded()
            if len(traffic) > previewing.DIRECT:
                return _begun(draft, now, len(traffic), user.pk)
            found = previewing.previewed(traffic, draft, now)
        except PolicyError as error:
            return Shown(problem=f"This cannot be tried: {error}.")
        except Unavailable:
            return Shown(problem="Redis does not answer: what was recorded cannot be read.")
        return Shown(panel_of(found, draft, now))


def _of_run(run: PreviewRun | None) -> Shown:
    """Of the limit as the form had it when the run was begun."""
    if run is None:
        return Shown(problem="This preview is no longer kept: ask for it again.")
    if run.is_open:
        return Shown(run=run)
    if run.state == PreviewRun.State.DONE and run.result is not None:
        draft, now = previewing.rules_of(run)
        return Shown(panel_of(from_json(run.result), draft, now))
    why = f" {run.error}" if run.error else ""
    return Shown(problem=f"{run.get_state_display()}.{why} Ask for it again.")


def _begun(draft: Rule, now: Rule | None, records: int, user_pk: int | None) -> Shown:
    """By a worker: the page does not wait for it."""
    run = previewing.begin(draft, now, records, user_pk)
    try:
        # A connection of its own: the pool's would try for seconds, while the page waits.
        with current_app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
            current_app.send_task(
                TASK, kwargs={"run": run.pk}, connection=connection, retry=False, expires=EXPIRES_S
            )
    except OperationalError:
        run.delete()
        return Shown(
            problem=f"{records:,} requests are recorded, which a worker goes through, and Celery's "
            "broker does not answer."
        )
    return Shown(run=run)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 16 else 0


def _never_saved(form: Any) -> Any:
    """The form, which finds its errors and then has the page shown again, whatever they are."""

    class Previewed(form):  # type: ignore[misc]
        def is_valid(self) -> bool:
            super().is_valid()
            return False

    return Previewed
