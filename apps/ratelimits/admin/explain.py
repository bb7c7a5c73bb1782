"""Explain: why was this request denied? Typed in, or picked from the last denials."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import path
from django.views.decorators.debug import sensitive_post_parameters

from .. import conf
from ..engine import get_engine
from ..explain import explain, explain_denial
from ..explained import Explanation
from ..policy.client_ip import UNKNOWN
from ..request_facts import request_facts
from ..storage.errors import Unavailable
from .denied import recent
from .support_forms import QuestionForm

STYLE = forms.Media(css={"all": ["ratelimits/support.css"]})
MAY_RESET = "ratelimits.reset_identity"


class Explains:
    """For the admin of the limits."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.explain_view)  # type: ignore[attr-defined]
        urls: list[Any] = super().get_urls()  # type: ignore[misc]
        return [path("explain/", view, name="ratelimits_explain"), *urls]

    def explain_view(self, request: HttpRequest) -> HttpResponseBase:
        """Why a request would be allowed or denied. A question is posted, so that no address and no
        key is in a log of requests."""
        if not self.has_view_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        return _explain_view(request, self)


@sensitive_post_parameters("headers")
def _explain_view(request: HttpRequest, page: Any) -> HttpResponseBase:
    engine = get_engine()
    if engine.version < 0:
        engine.start()
    found: Explanation | None = None
    if request.method == "POST":
        form = QuestionForm(request.POST)
        if form.is_valid():
            found = explain(engine, form.question())
    else:
        seen = request_facts(request, conf.current()).address.partition("/")[0]
        form = QuestionForm(initial={"method": "GET", "path": "", "address": seen})
        found = _picked(request)
    request.current_app = page.admin_site.name
    context = {
        **page.admin_site.each_context(request),
        "title": "Explain",
        "media": page.media + STYLE,
        "form": form,
        "found": found,
        "client": _client(found),
        "recent": recent(),
        "names_kept": conf.current().denied_names,
        "may_see_overrides": request.user.has_perm("ratelimits.view_override"),
    }
    return TemplateResponse(request, "ratelimits/explain.html", context)


def _client(found: Explanation | None) -> str:
    """As the page of an identity takes it."""
    if found is None or found.denial is not None or found.address == UNKNOWN:
        return ""
    return found.address.partition("/")[0]


def _picked(request: HttpRequest) -> Explanation | None:
    entry = request.GET.get("denial", "")
    if not entry:
        return None
    if not re.fullmatch(r"\d{1,20}-\d{1,20}", entry):
        messages.error(request, "That is no denial of the list.")
        return None
    engine = get_engine()
    try:
        denial = engine.denied.get(entry)
    except Unavailable:
        messages.error(request, "Redis does not answer: the denial cannot be read.")
        return None
    if denial is None:
        messages.warning(request, "Newer denials have taken its place: it is no longer kept.")
        return None
    return explain_denial(engine, denial)
