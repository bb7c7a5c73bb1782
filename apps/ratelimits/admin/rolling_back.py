"""The page that goes back to an entry of the history: shows first what that would do, then asks."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse

from .. import conf, rights, rollback, wording
from ..models import RateLimit, RulesetVersion
from ..models.entries import REASON_CHARS
from ..policy.errors import PolicyError
from ..rollback import RollBack
from .edit_text import NOT_YOURS, REASON_MISSING, RENAMED
from .history import CSS, address, name_of, number, who
from .lockout import LockOut
from .publishing import reason


class Objections(NamedTuple):
    """``never``: why it cannot be done; ``against``: what speaks against it, and is asked for."""

    never: tuple[str, ...]
    against: tuple[str, ...]


class RollsBack:
    """Of an admin whose model keeps its history; before SimpleHistoryAdmin, whose page of an entry
    is a form that whoever may look can save."""

    def history_form_view(
        self,
        request: HttpRequest,
        object_id: str,
        version_id: str,
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponseBase:
        with transaction.atomic():
            return self._roll_back(request, number(object_id), number(version_id))

    def _roll_back(self, request: HttpRequest, pk: int, version: int) -> HttpResponseBase:
        model: Any = self.model  # type: ignore[attr-defined]
        try:
            # What is shown is what is saved: nobody else edits it in between.
            if request.method == "POST":
                RulesetVersion.hold()
            list(model.objects.select_for_update().filter(pk=pk))
            planned = rollback.plan(model, pk, version)
        except model.history.model.DoesNotExist as error:
            raise Http404 from error
        if not self.has_view_or_change_permission(request, planned.now):  # type: ignore[attr-defined]
            raise PermissionDenied
        if request.method == "POST" and not self._may(request, planned):
            raise PermissionDenied
        found = self._objections(request, planned)
        said: list[str] = []
        if request.method == "POST" and not found.never:
            said = self._still_to_say(request, planned, found)
            if not said:
                return self._done(request, planned)
        return self._page(request, planned, found, said)

    def _may(self, request: HttpRequest, planned: RollBack) -> bool:
        """Leaving aside what is in force."""
        if planned.now is None:
            return bool(self.has_add_permission(request))  # type: ignore[attr-defined]
        return bool(self._may_edit(request, planned.now))  # type: ignore[attr-defined]

    def _objections(self, request: HttpRequest, planned: RollBack) -> Objections:
        never: list[str] = []
        if planned.now is not None and not planned.differences:
            never.append("Nothing differs from what it is now.")
        if _in_force(planned) and not rights.may_publish(request.user):
            now = planned.now is not None and rights.in_force(planned.now)
            never.append(f"It {'is' if now else 'would be'} in force. {NOT_YOURS}")
        if isinstance(planned.now, RateLimit) and not rights.may_publish(request.user):
            renamed = planned.now.name != planned.row.name
            if renamed and rights.code_depends_on(planned.now.name):
                never.append(RENAMED)
        try:
            planned.check()
            against = _against(request, planned)
        except ValidationError as error:
            return Objections((*never, *_told(planned, error)), ())
        except PolicyError as error:
            return Objections((*never, f"It cannot be enforced: {error}"), ())
        return Objections(tuple(never), against)

    def _still_to_say(
        self, request: HttpRequest, planned: RollBack, found: Objections
    ) -> list[str]:
        said = []
        if request.POST.get("told") != str(planned.newest):
            said.append("It was edited meanwhile: please look once more.")
        if found.against and not request.POST.get("lock_out"):
            said.append("Tick that you mean it, or leave it as it is.")
        if conf.current().reason_required and _in_force(planned) and not reason(request):
            said.append(REASON_MISSING)
        return said

    def _done(self, request: HttpRequest, planned: RollBack) -> HttpResponseBase:
        row = rollback.carry_out(planned, request.user, reason(request))
        said = rollback.reason(planned)
        log: Any = self.log_addition if planned.now is None else self.log_change  # type: ignore[attr-defined]
        log(request, row, f"{said}.")
        messages.success(request, f"{row}: {said[0].lower()}{said[1:]}.")
        return HttpResponseRedirect(reverse(address(self, "change"), args=[row.pk]))

    def _page(
        self, request: HttpRequest, planned: RollBack, found: Objections, said: list[str]
    ) -> HttpResponseBase:
        site: Any = self.admin_site  # type: ignore[attr-defined]
        request.current_app = site.name
        may = self._may(request, planned)
        name = name_of(planned.now or planned.row)
        context = {
            **site.each_context(request),
            "opts": self.model._meta,  # type: ignore[attr-defined]
            "title": f"{'Bring' if planned.now is None else 'Roll'} {name} back",
            "name": name,
            "media": self.media + CSS,  # type: ignore[attr-defined]
            "planned": planned,
            "object": planned.now,  # The theme's way up.
            "who": who(planned.entry),
            "now_sentence": _sentence(planned.now),
            "then_sentence": _sentence(planned.row, planned.groups),
            "found": found,
            "said": said,
            "offers": may and not found.never,
            "may": may,
            "reason": reason(request),
            "reason_chars": REASON_CHARS,
            "reason_required": conf.current().reason_required and _in_force(planned),
            "history_url": reverse(address(self, "history"), args=[planned.entry.id]),
        }
        return TemplateResponse(request, "ratelimits/roll_back.html", context)


def _in_force(planned: RollBack) -> bool:
    return any(rights.in_force(row) for row in (planned.now, planned.row) if row is not None)


def _against(request: HttpRequest, planned: RollBack) -> tuple[str, ...]:
    lock_out = LockOut(request)
    if isinstance(planned.row, RateLimit):
        return lock_out.reasons_of_limit(planned.row, groups=planned.groups)
    return lock_out.reasons_of_override(saved=planned.row)


def _told(planned: RollBack, error: ValidationError) -> list[str]:
    """With the labels of the fields, which are not on this page."""
    if not hasattr(error, "error_dict"):
        return list(error.messages)
    options = planned.row._meta
    said = []
    for name, texts in error.message_dict.items():
        label = "" if name == "__all__" else f"{options.get_field(name).verbose_name}: "
        said += [f"{label[:1].upper()}{label[1:]}{text}" for text in texts]
    return said


def _sentence(row: Any, groups: Any = None) -> str:
    if isinstance(row, RateLimit):
        return wording.sentence(row, row.groups.all() if groups is None else groups)
    return f"{name_of(row)}." if row is not None else ""
