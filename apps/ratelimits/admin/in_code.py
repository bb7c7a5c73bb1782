"""Which limits code asks for by name: on a limit's form, and above the list those that are missing.

What is known is of the process that serves the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib import admin, messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from .. import conf, used_in_code
from ..models import RateLimit

MOST_SHOWN = 10
MOST_IN_LINE = 3
UNSEEN = "Workers and commands load other code: what only they ask for is not known here."


@dataclass(frozen=True, slots=True)
class Wanted:
    """A name that code asks for and no limit has."""

    name: str
    uses: str
    add_url: str


class TellsWhatCodeUses:
    """For the admin of the limits: the field ``used_in_code``, and what the list says first."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        found = wanted()
        may_add = self.has_add_permission(request)  # type: ignore[attr-defined]
        context = {
            "wanted": found[:MOST_SHOWN],
            "wanted_more": max(0, len(found) - MOST_SHOWN),
            "wanted_then": conf.current().unknown_limit,
            "may_add": may_add,
            **(extra_context or {}),
        }
        if found and request.method == "GET" and not apps.is_installed("unfold"):
            messages.warning(request, _told(found, may_add))
        response: HttpResponseBase = super().changelist_view(request, context)  # type: ignore[misc]
        return response

    @admin.display(description="used in code")
    def used_in_code(self, limit: RateLimit) -> str:
        return told_of(limit)


def wanted() -> list[Wanted]:
    """In the order of their names. One query."""
    uses = used_in_code.uses()
    if not uses:
        return []
    made = set(RateLimit.objects.filter(name__in=uses).values_list("name", flat=True))
    add = reverse("admin:ratelimits_ratelimit_add")
    return [
        Wanted(
            name,
            "; ".join(_first(places, MOST_IN_LINE)),
            f"{add}?{urlencode({'name': name, 'path_kind': RateLimit.PathKind.NAMED.value})}",
        )
        for name, places in uses.items()
        if name not in made
    ]


def told_of(limit: RateLimit) -> str:
    """Where code asks for a limit, as its form says it."""
    by_name = limit.path_kind == RateLimit.PathKind.NAMED
    places = used_in_code.uses().get(limit.name, [])
    if not places:
        nowhere = "Nowhere that this process knows of, so nothing is counted." if by_name else "No."
        return f"{nowhere} {UNSEEN}" if by_name else nowhere
    listed = format_html_join("", "<li>{}</li>", ((use,) for use in _first(places, MOST_SHOWN)))
    twice = "" if by_name else " It covers paths too: each request is charged once."
    return format_html("<ul>{}</ul><p>{}{}</p>", listed, UNSEEN, twice)


def _first(places: list[used_in_code.Use], most: int) -> list[str]:
    more = [f"{len(places) - most:,} more"] if len(places) > most else []
    return [*map(str, places[:most]), *more]


def _told(found: list[Wanted], may_add: bool) -> SafeString:
    """For the stock admin, which has no place above its list."""
    form = '<a href="{1}">{0}</a>' if may_add else "{0}"
    names = format_html_join(", ", form, ((each.name, each.add_url) for each in found[:MOST_SHOWN]))
    return format_html("Code asks for limits that nobody has made: {}.", names)
