"""On a limit's form: what keeping what is counted, or starting afresh, does to whom."""

from __future__ import annotations

from copy import copy
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_POST
from redis.exceptions import NoPermissionError

from .. import conf, keeping, ruleset
from ..engine import get_engine
from ..keeping import Told
from ..models import Override, RateLimit
from ..policy.errors import PolicyError
from ..storage.counted import Sample, sample
from ..storage.errors import Unavailable
from ..storage.topology import Topology

URL = "ratelimits_keeping"
FRAGMENT = "ratelimits/keeping.html"
NOT_KNOWN = "Not known: Redis does not answer."
MAY_NOT_LOOK = (
    "Not known: the site's user of Redis may not look through the keys. Name one that may in "
    "IOTA_REDIS_SWEEPER_URL (iota-sweeper in deploy/redis/users.acl)."
)
NOT_YET = "First correct what is wrong in the form: then this says what the edit does to whom."


class TellsWhoIsCounted:
    """For the admin of the limits."""

    @admin.display(description="keep or start afresh")
    def counted_now(self, limit: RateLimit) -> str | SafeString:
        if limit.pk is None:
            return "A new limit has counted nothing."
        # The theme asks for each value several times: Redis is asked once.
        known: dict[str, Any] = vars(limit)
        if "_counted_now" not in known:
            context = {**_told(limit, limit), "url": reverse(f"admin:{URL}", args=(limit.pk,))}
            known["_counted_now"] = render_to_string(FRAGMENT, context)
        return mark_safe(str(known["_counted_now"]))  # noqa: S308  (a template's, escaped there)

    def get_urls(self) -> list[Any]:
        site = self.admin_site  # type: ignore[attr-defined]
        view = require_POST(site.admin_view(self.keeping_view))
        return [path("<int:pk>/keeping/", view, name=URL), *super().get_urls()]  # type: ignore[misc]

    def keeping_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """For how many clients the edit that the posted form describes keeps their usage; nothing
        is saved. A page of its own for who has no scripts."""
        limit = self.get_object(request, str(pk))  # type: ignore[attr-defined]
        if limit is None:
            raise Http404
        if not self.has_change_permission(request, limit):  # type: ignore[attr-defined]
            raise PermissionDenied
        before = copy(limit)
        form = self.get_form(request, limit)(request.POST, instance=limit)  # type: ignore[attr-defined]
        form.is_valid()
        told: dict[str, Any] = {"problem": NOT_YET}
        if not keeping.missing(form.cleaned_data):
            told = _told(before, form.instance)
        context = {**told, "url": reverse(f"admin:{URL}", args=(pk,))}
        if request.headers.get("X-Requested-With") == "fetch":
            return TemplateResponse(request, FRAGMENT, context)
        site = self.admin_site  # type: ignore[attr-defined]
        context |= {
            **site.each_context(request),
            "title": f"{before}: keep or start afresh",
            "opts": RateLimit._meta,
            "alone": True,
        }
        request.current_app = site.name
        return TemplateResponse(request, "ratelimits/keeping_page.html", context)


def _told(before: RateLimit, after: RateLimit) -> dict[str, Told | str]:
    alive = Q(until=None) | Q(until__gt=timezone.now())
    overrides = Override.objects.filter(alive, Q(limit=before.pk) | Q(limit=None)).count()
    try:
        return {"told": keeping.told(before, after, _sample(before), overrides)}
    except PolicyError:
        return {"problem": "Nobody: the limit cannot be enforced as it is."}
    except Unavailable as error:
        forbidden = isinstance(error.__cause__, NoPermissionError)
        return {"problem": MAY_NOT_LOOK if forbidden else NOT_KNOWN}


def _sample(limit: RateLimit) -> Sample:
    """As the user of Redis who may look through the keys, where the site's own may not."""
    config, limiter = conf.current(), get_engine().limiter
    rule = ruleset.as_rule(limit, [], ())
    if not config.redis_sweeper_url:
        return sample(limiter.client, limiter.keys, rule)
    topology = Topology.parse(
        config.redis_sweeper_url, timeout_ms=config.redis_timeout_ms, max_connections=2
    )
    client = topology.client()
    try:
        return sample(client, limiter.keys, rule)
    finally:
        client.close()
