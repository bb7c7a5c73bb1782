"""Who may edit what on the pages of limits and overrides, and the reasons that they give.

What is in force is shown to everybody who may see it, and read only to those who may not publish:
nobody types in what is then refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.text import capfirst

from .. import conf, rights
from ..models import RateLimit
from ..models.entries import REASON_CHARS
from .edit_text import MEANWHILE, NOT_YOURS, NOTHING_DONE, READ_ONLY
from .history import address

FOR_EDITORS = ("lock_out", "change_reason", "start_afresh")
"""Fields of the form that say nothing to whoever only looks."""
MOST_NAMED = 5


class PublishersAdmin:
    """Of an admin whose rows are limits or overrides."""

    delete_confirmation_template = "ratelimits/delete.html"
    delete_selected_confirmation_template = "ratelimits/delete.html"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may_edit(request, obj) and is_theirs(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may: bool = super().has_delete_permission(request, obj)  # type: ignore[misc]
        return may and may_go(request, obj)

    def has_publish_permission(self, request: HttpRequest) -> bool:
        """Of actions: ``permissions=["publish"]``."""
        return self._may_edit(request) and rights.may_publish(request.user)

    def _may_edit(self, request: HttpRequest, obj: Any = None) -> bool:
        """Leaving aside what is in force."""
        may: bool = super().has_change_permission(request, obj)  # type: ignore[misc]
        return may

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Sequence[Any]:
        found = super().get_fieldsets(request, obj)  # type: ignore[misc]
        edits = self.has_change_permission(request, obj) if obj else True
        if not edits:
            return [(title, {**options, "fields": _shown(options)}) for title, options in found]
        form = self.form  # type: ignore[attr-defined]
        return [*found, ("Why", {"fields": ("change_reason",)})] if form.asks_why(obj) else found

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        row = self.get_object(request, object_id) if object_id else None  # type: ignore[attr-defined]
        if row is not None and self._may_edit(request, row) and not is_theirs(request, row):
            if request.method == "POST":
                messages.error(request, MEANWHILE)
                return HttpResponseRedirect(request.path)
            messages.info(request, READ_ONLY)
        found: HttpResponseBase = super().changeform_view(  # type: ignore[misc]
            request, object_id, *args, **kwargs
        )
        return found

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """The page says what kinds it may not delete; this, which and why."""
        not_theirs = [str(row) for row in objs if not may_go(request, row)]
        if not_theirs:
            why = "In force, or asked for by code, and not yours to delete"
            messages.warning(request, f"{why}: {_listed(not_theirs)}.")
        deleted, *others = super().get_deleted_objects(objs, request)  # type: ignore[misc]
        return (_told(deleted), *others)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        row = self.get_object(request, object_id)  # type: ignore[attr-defined]
        if request.method == "POST" and row is not None and lacks_reason(request, [row]):
            messages.error(request, NOTHING_DONE)
            return HttpResponseRedirect(request.path)
        back = reverse(address(self, "change"), args=[object_id])
        context = {**_asked_why([row]), "back_url": back, **(extra_context or {})}
        found: HttpResponseBase = super().delete_view(request, object_id, context)  # type: ignore[misc]
        return found

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with_reason(request, obj)
        super().delete_model(request, obj)  # type: ignore[misc]

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """One by one: each has an entry with its author and reason."""
        with transaction.atomic():
            for row in queryset:
                with_reason(request, row)
                row.delete()

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        """``action_location`` is Django's from 6.1 on, whose actions are objects and no tuples."""
        where = {} if action_location is None else {"action_location": action_location}
        actions: dict[str, Any] = super().get_actions(request, **where)  # type: ignore[misc]
        stock = actions.get("delete_selected")
        if isinstance(stock, tuple):
            actions["delete_selected"] = (_asking_why(stock[0]), *stock[1:])
        elif stock is not None:
            actions["delete_selected"] = replace(stock, func=_asking_why(stock.func))
        return actions


def may_go(request: HttpRequest, row: Any) -> bool:
    """Whether this person may delete it."""
    if not isinstance(row, RateLimit) or rights.may_publish(request.user):
        return is_theirs(request, row)
    return not rights.in_force(row) and not rights.code_depends_on(row.name)


def is_theirs(request: HttpRequest, row: Any) -> bool:
    return row is None or rights.may_publish(request.user) or not rights.in_force(row)


def theirs(request: HttpRequest, rows: Iterable[Any]) -> list[Any]:
    """Those that this person may edit; says of the others that they are left."""
    known = list(rows)
    found = [row for row in known if is_theirs(request, row)]
    if others := [str(row) for row in known if row not in found]:
        were = "was" if len(others) == 1 else "were"
        said = f"{_listed(others)} {were} left, being in force. {NOT_YOURS}"
        messages.warning(request, said)
    return found


def reason(request: HttpRequest) -> str:
    """As it was typed in beside an action or on a page that asks."""
    return " ".join(request.POST.get("reason", "").split())[:REASON_CHARS]


def with_reason(request: HttpRequest, row: Any) -> None:
    """What is then saved or deleted says why, and who did it."""
    row._change_reason, row._history_user = reason(request) or None, request.user


def lacks_reason(request: HttpRequest, rows: Iterable[Any], comes: bool = False) -> bool:
    """Whether one must be given and was not. ``comes``: they come into force by the change."""
    if reason(request) or not conf.current().reason_required:
        return False
    return comes or any(rights.in_force(row) for row in rows)


def _asking_why(stock: Any) -> Any:
    def delete_selected(admin: Any, request: HttpRequest, rows: Any) -> HttpResponse | None:
        if request.POST.get("post") and lacks_reason(request, rows):
            messages.error(request, NOTHING_DONE)
            return None
        answer: Any = stock(admin, request, rows)
        if answer is not None:
            answer.context_data |= {**_asked_why(rows), "reason": reason(request)}
        return answer  # type: ignore[no-any-return]

    return delete_selected


def _asked_why(rows: Iterable[Any]) -> dict[str, Any]:
    required = conf.current().reason_required
    return {
        "reason_chars": REASON_CHARS,
        "reason_required": required and any(row and rights.in_force(row) for row in rows),
    }


def _told(deleted: list[Any]) -> list[Any]:
    """Without the rows that join a limit and a group, which have no name."""
    joins = capfirst(RateLimit.groups.through._meta.verbose_name)
    found = [_told(one) if isinstance(one, list) else one for one in deleted]
    return [one for one in found if one and not str(one).startswith(f"{joins}:")]


def _shown(options: dict[str, Any]) -> list[Any]:
    """Fields of a set, without those for whoever edits."""
    fields = []
    for name in options["fields"]:
        if isinstance(name, str):
            kept: Any = () if name in FOR_EDITORS else (name,)
            fields += kept
        elif kept := tuple(part for part in name if part not in FOR_EDITORS):
            fields.append(kept)
    return fields


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
