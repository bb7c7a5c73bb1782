"""All that was done to limits and overrides, the newest first; what was deleted comes back here."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import Value
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import path

from .. import diff
from ..models import Override, RateLimit
from .history import CSS, Line, chosen, lines, paged, people_of

KINDS = (
    ("", "Limits and overrides"),
    ("limits", "Limits"),
    ("overrides", "Overrides"),
    ("deleted", "Deleted, and not brought back"),
)


class EditsPage:
    """A page of its own beside the list of limits."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.edits_view)  # type: ignore[attr-defined]
        return [path("edits/", view, name="ratelimits_edits"), *super().get_urls()]  # type: ignore[misc]

    def edits_view(self, request: HttpRequest) -> HttpResponseBase:
        """The last edits of all limits and overrides; what was deleted comes back from here."""
        if not self.has_view_or_change_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        site: Any = self.admin_site  # type: ignore[attr-defined]
        kind = request.GET.get("kind", "")
        models = [model for model in _models(kind) if _may_see(request, model)]
        if not models:
            raise PermissionDenied
        people = sorted({one for model in models for one in people_of(model.history.all())})
        people.sort(key=lambda one: one[1])
        who = chosen(request.GET.get("who"), people)
        page, keys = paged(request, _keys(models, who, gone=kind == "deleted"))
        request.current_app = site.name
        context = {
            **site.each_context(request),
            "opts": RateLimit._meta,
            "title": "Recent edits",
            "media": self.media + CSS,  # type: ignore[attr-defined]
            "page": page,
            "lines": _lines(models, keys, site.name),
            "people": people,
            "who": who,
            "kinds": KINDS,
            "kind": kind,
        }
        return TemplateResponse(request, "ratelimits/edits.html", context)


def _models(kind: str) -> list[Any]:
    if kind == "limits":
        return [RateLimit]
    return [Override] if kind == "overrides" else [RateLimit, Override]


def _may_see(request: HttpRequest, model: Any) -> bool:
    name = model._meta.model_name
    verbs = (f"ratelimits.{verb}_{name}" for verb in ("view", "change"))
    return any(request.user.has_perm(permission) for permission in verbs)


def _keys(models: list[Any], who: int | None, *, gone: bool) -> Any:
    """``(model, number of the entry)`` of both kinds in one order, for a page of them."""
    found = []
    for model in models:
        rows = model.history.order_by()
        if who is not None:
            rows = rows.filter(history_user=who)
        if gone:
            rows = rows.filter(history_type="-").exclude(id__in=model.objects.values("pk"))
        kind = Value(model._meta.model_name)
        found.append(rows.annotate(kind=kind).values_list("kind", "history_id", "history_date"))
    first, *others = found
    joined = first.union(*others, all=True) if others else first
    return joined.order_by("-history_date", "-history_id")


def _lines(models: list[Any], keys: list[Any], site: str) -> list[Line]:
    found: dict[tuple[str, int], Line] = {}
    for model in models:
        kind = model._meta.model_name
        numbers = [number for name, number, _ in keys if name == kind]
        rows = diff.with_before(model.history.filter(history_id__in=numbers))
        entries = list(rows.select_related("history_user"))
        there = set(model.objects.filter(pk__in={entry.id for entry in entries}).values_list("pk"))
        told = zip(entries, lines(model, entries, site), strict=True)
        for entry, line in told:
            back = entry.history_type == "-" and (entry.id,) not in there
            found[kind, entry.history_id] = line.without_way_back() if not back else line
    return [found[name, number] for name, number, _ in keys]
