"""The history of a limit or an override: who changed what, when and why, and the way back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.core.paginator import Page, Paginator
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse

from .. import diff, modes, wording
from ..history import VERBS
from ..models import RateLimit

PER_PAGE = 20
MOST_PEOPLE = 100
CSS = forms.Media(css={"all": ["ratelimits/history.css"]})


@dataclass(frozen=True, slots=True)
class Line:
    """An entry, in words. ``sentence``: what a limit said that was made so. ``history`` and
    ``back`` are addresses; ``back`` is empty where there is nothing to go back to."""

    at: datetime
    name: str
    verb: str
    who: str
    reason: str
    sentence: str
    differences: tuple[diff.Difference, ...]
    history: str
    back: str

    def without_way_back(self) -> Line:
        return replace(self, back="")


class HistoryPages:
    """Of an admin whose model keeps its history."""

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        model: Any = self.model  # type: ignore[attr-defined]
        site: Any = self.admin_site  # type: ignore[attr-defined]
        entries = model.history.filter(id=number(object_id))
        row = model.objects.filter(pk=number(object_id)).first()
        newest = entries.first()
        if row is None and newest is None:
            raise Http404
        if not self.has_view_or_change_permission(request, row):  # type: ignore[attr-defined]
            raise PermissionDenied
        people = people_of(entries)
        who = chosen(request.GET.get("who"), people)
        page, shown = paged(request, of(entries, who))
        still = newest if row is not None else None
        request.current_app = site.name
        name = name_of(row or newest.instance)
        context = {
            **site.each_context(request),
            "opts": model._meta,
            "title": f"History of {name}",
            "media": self.media + CSS,  # type: ignore[attr-defined]
            "row": row,
            "object": row,  # The theme's way up.
            "name": name,
            "change_url": reverse(address(self, "change"), args=[row.pk]) if row else "",
            "page": page,
            "lines": lines(model, shown, site.name, still),
            "people": people,
            "who": who,
            **(extra_context or {}),
        }
        return TemplateResponse(request, "ratelimits/history.html", context)


def lines(model: Any, entries: Sequence[Any], site: str, newest: Any = None) -> list[Line]:
    """``newest`` is the entry that its row is still as, so that nobody goes back to it."""
    known = diff.versions(diff.followed(entries).values()) if entries else {}
    words = diff.Words(model, known.values())
    prefix = f"{site}:{model._meta.app_label}_{model._meta.model_name}"
    return [
        Line(
            at=entry.history_date,
            name=entry.name if model is RateLimit else f"override {entry.id}",
            verb=VERBS[entry.history_type],
            who=who(entry),
            reason=entry.history_change_reason or "",
            sentence=_sentence(entry, known[entry.history_id], words),
            differences=_differences(entry, known, words),
            history=reverse(f"{prefix}_history", args=[entry.id]),
            back=(
                reverse(f"{prefix}_simple_history", args=[entry.id, entry.history_id])
                if newest is None or entry.history_id != newest.history_id
                else ""
            ),
        )
        for entry in entries
    ]


def _differences(
    entry: Any, known: dict[int, diff.Version], words: diff.Words
) -> tuple[diff.Difference, ...]:
    before = known.get(entry.before)
    if entry.history_type != "~" or before is None:
        return ()
    return words.differences(before, known[entry.history_id])


def _sentence(entry: Any, version: diff.Version, words: diff.Words) -> str:
    if entry.history_type != "+":
        return ""
    if isinstance(entry.instance, RateLimit):
        return wording.sentence(entry.instance, words.groups(version))
    return f"{name_of(entry.instance)}."


def name_of(row: Any) -> str:
    """Of an override also where whom it was about is gone."""
    try:
        return str(row)
    except ObjectDoesNotExist:
        return f"{row._meta.verbose_name} {row.pk}"


def who(entry: Any) -> str:
    """A command has no user, and says so in its reason; whoever is deleted is not remembered."""
    if entry.history_user is not None:
        return str(entry.history_user)
    if (entry.history_change_reason or "").startswith(modes.REASON):
        return "a command on the server"
    return "nobody known"


def people_of(entries: Any) -> list[tuple[int, str]]:
    """Whoever has made one of them, by name, at most MOST_PEOPLE."""
    user = entries.model._meta.get_field("history_user").remote_field.model
    pks = entries.order_by().values("history_user")
    found = user._default_manager.filter(pk__in=pks)[:MOST_PEOPLE]
    return sorted(((row.pk, str(row)) for row in found), key=lambda one: one[1])


def chosen(text: str | None, people: Iterable[tuple[int, str]]) -> int | None:
    """The person that is asked for; nobody where there is none such."""
    return next((pk for pk, _ in people if str(pk) == text), None)


def of(entries: Any, who: int | None) -> Any:
    found = entries if who is None else entries.filter(history_user=who)
    return diff.with_before(found).select_related("history_user")


def paged(request: HttpRequest, entries: Any) -> tuple[Page[Any], list[Any]]:
    """The page that is asked for, and its entries."""
    page = Paginator(entries, PER_PAGE).get_page(request.GET.get("p"))
    return page, list(page.object_list)


def address(admin: Any, page: str) -> str:
    """The name of the address of one of this admin's pages."""
    options = admin.model._meta
    return f"{admin.admin_site.name}:{options.app_label}_{options.model_name}_{page}"


def number(text: str) -> int:
    """Raises Http404 where it is none."""
    if not text.isdecimal() or len(text) > 18:
        raise Http404
    return int(text)
