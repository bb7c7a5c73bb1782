"""An identity: who is this, and help them. A bar in every limit, and reset, block, exempt.

Whom it is about is posted, so that no address and no key is in a log of requests; a digest, which
tells nobody anything, may be in an address. What changes something is said in numbers first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.defaultfilters import pluralize
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.debug import sensitive_post_parameters

from .. import conf, exempting, rights
from ..engine import Engine, get_engine
from ..inspecting import Inspection, Subject, inspect, reset
from ..models import Override, RateLimit
from ..models.entries import REASON_CHARS
from ..policy.client_ip import client_address
from ..policy.rules import BLOCKING, OverrideAction
from ..storage.errors import Unavailable
from .edit_text import NOTHING_DONE
from .explain import MAY_RESET, STYLE
from .lockout import LockOut
from .support_forms import PRESETS, IdentityForm, UntilForm

ACTIONS = {"block": OverrideAction.BLOCKED, "exempt": OverrideAction.UNLIMITED}
AWAY = "Redis does not answer: where this identity stands is not known."


@dataclass(frozen=True, slots=True)
class Asked:
    """What is about to be done: in a sentence with its numbers, and what speaks against it."""

    what: str
    title: str
    sentences: tuple[str, ...]
    button: str
    reasons: tuple[str, ...] = ()
    target: str = ""
    until: UntilForm | None = None


class ShowsIdentities:
    """For the admin of the limits."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.identity_view)  # type: ignore[attr-defined]
        urls: list[Any] = super().get_urls()  # type: ignore[misc]
        return [path("identity/", view, name="ratelimits_identity"), *urls]

    def identity_view(self, request: HttpRequest) -> HttpResponseBase:
        """Where somebody stands with every limit; resets, exempts and blocks them."""
        if not self.has_view_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        return _identity_view(request, self)


@sensitive_post_parameters("key", "session")
def _identity_view(request: HttpRequest, page: Any) -> HttpResponseBase:
    engine = get_engine()
    if engine.version < 0:
        engine.start()
    shown = request.method == "POST" or "digest" in request.GET
    form = IdentityForm((request.POST or request.GET) if shown else None)
    context: dict[str, Any] = {"form": form, "may": _may(request), "presets": PRESETS}
    if shown and form.is_valid():
        context |= _about(request, page, engine, form.subject())
        context["kept"] = [(name, form.data.get(name, "")) for name in form.fields]
    request.current_app = page.admin_site.name
    context |= {
        **page.admin_site.each_context(request),
        "title": "Identity",
        "media": page.media + STYLE,
    }
    return TemplateResponse(request, "ratelimits/identity.html", context)


def _may(request: HttpRequest) -> dict[str, bool]:
    return {"reset": request.user.has_perm(MAY_RESET), "except": _may_except(request)}


def _may_except(request: HttpRequest) -> bool:
    """A publisher's: it is of every limit, and so of those that are enforced."""
    may_edit = ["ratelimits.add_override", "ratelimits.change_override"]
    return request.user.has_perms(may_edit) and rights.may_publish(request.user)


def _about(request: HttpRequest, page: Any, engine: Engine, subject: Subject) -> dict[str, Any]:
    """What the page says of somebody, once what was asked for is done or asked again."""
    try:
        found = inspect(engine, subject)
    except Unavailable as error:
        engine.limiter.failures.note(error)
        return {"away": AWAY}
    network = ""
    if subject.address:
        network = client_address(subject.address, "", (), engine.config.ipv6_prefix)
    targets = exempting.targets(subject, network)
    asked, done = None, False
    what = request.POST.get("what", "") if request.method == "POST" else ""
    if what == "reset":
        asked, done = _reset(request, engine, found)
    elif what in ACTIONS:
        asked = _except(request, page, engine, targets, what)
        done = asked is None
    if done:
        try:
            # The published limits, so that the page shows what is in force now.
            engine.refresh()
            found = inspect(engine, subject)
        except Unavailable:
            return {"away": AWAY}
    return {
        "found": found,
        "asked": asked,
        "targets": targets,
        "overrides": _overrides(request, targets),
        "now": timezone.now(),
        "processes": _processes(engine),
    }


def _overrides(request: HttpRequest, targets: Sequence[exempting.Whom]) -> list[Override]:
    """They say whom they are about, and why: for whoever may see overrides."""
    if not request.user.has_perm("ratelimits.view_override"):
        return []
    return [one for whom in targets for one in whom.overrides()]


def _reset(request: HttpRequest, engine: Engine, found: Inspection) -> tuple[Asked | None, bool]:
    if not request.user.has_perm(MAY_RESET):
        raise PermissionDenied
    if not found.digests:
        messages.info(request, "Nothing is counted of this identity: there is nothing to reset.")
        return None, False
    used = found.used
    limits = f"{len(found.in_use):,} limit{pluralize(len(found.in_use))}"
    if "confirmed" not in request.POST:
        what = (
            f"{used:,} used unit{pluralize(used)} in {limits} "
            f"{'is' if used == 1 else 'are'} forgotten: {found.whom} begins with a full quota, in "
            f"{_processes(engine)} within a second. It cannot be undone."
        )
        title = f"Reset {found.whom}?"
        return Asked("reset", title, (what, *found.warnings), "Yes, reset"), False
    try:
        reset(engine, found)
    except Unavailable:
        messages.error(
            request, "Redis does not answer: whether it was reset is not known. Try again."
        )
        return None, False
    _log(request, f"Reset an identity: {used:,} units in {limits}.", found.digests)
    messages.success(
        request, f"Reset: {used:,} units in {limits} are forgotten, in every process within 1 s."
    )
    return None, True


def _log(request: HttpRequest, text: str, digests: Sequence[str]) -> None:
    """Of digests alone: who they are is nobody's to read there."""
    who: Any = request.user
    LogEntry.objects.create(
        user_id=who.pk,
        content_type=ContentType.objects.get_for_model(RateLimit),
        object_id=None,
        object_repr=f"identity {' '.join(digests)}"[:200],
        action_flag=CHANGE,
        change_message=text,
    )


def _except(
    request: HttpRequest, page: Any, engine: Engine, targets: Sequence[exempting.Whom], what: str
) -> Asked | None:
    """Asked first; None once it is done, or cannot be."""
    if not _may_except(request):
        raise PermissionDenied
    chosen = request.POST.get("target", "")
    whom = next((one for one in targets if one.kind == chosen), None)
    if whom is None:
        messages.error(request, "Choose whom: the address, the user, or the owner of the key.")
        return None
    confirmed = "confirmed" in request.POST
    form = UntilForm(request.POST)
    if not form.is_valid():
        if confirmed or "date" not in form.errors:
            messages.error(request, " ".join(map(str, chain(*form.errors.values()))))
        return _asked_until(what, whom, form)
    until = form.until()
    try:
        drafted = exempting.draft(whom, ACTIONS[what], until, form.cleaned_data["reason"])
    except exempting.Stands as error:
        link = reverse("admin:ratelimits_override_change", args=(error.override.pk,))
        text = '{}: <a href="{}">edit that override</a>.'
        messages.error(request, format_html(text, error, link))
        return None
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        form.add_error(None, error.messages)  # It is asked once more, with its numbers.
        return _asked_until(what, whom, form)
    reasons = LockOut(request).reasons_of_override(saved=drafted) if what == "block" else ()
    why = form.cleaned_data["reason"]
    if confirmed and not why and conf.current().reason_required:
        messages.error(request, NOTHING_DONE)
        confirmed = False
    if not confirmed or (reasons and "lock_out" not in request.POST):
        return _asked_about(engine, what, whom, drafted, until, form, reasons)
    is_new = drafted.pk is None
    drafted._change_reason = why[:REASON_CHARS] or None  # type: ignore[attr-defined]
    drafted.save()
    _log_override(request, page, drafted, is_new=is_new)
    words = "Blocked" if what == "block" else "Exempt"
    messages.success(request, f"{words}: {whom.text}, until {_moment(until)}.")
    return None


def _log_override(request: HttpRequest, page: Any, override: Override, *, is_new: bool) -> None:
    """As the form of an override does."""
    if is_new:
        page.log_addition(request, override, [{"added": {}}])
    else:
        page.log_change(request, override, [{"changed": {"fields": ["action", "until"]}}])


def _asked_until(what: str, whom: exempting.Whom, form: UntilForm) -> Asked:
    verb = "Block" if what == "block" else "Exempt"
    said = ("Until when?",)
    return Asked(what, f"{verb} {whom.text}", said, "Go on", target=whom.kind, until=form)


def _asked_about(
    engine: Engine,
    what: str,
    whom: exempting.Whom,
    drafted: Override,
    until: datetime,
    form: UntilForm,
    reasons: Sequence[str],
) -> Asked:
    enforced = sum(one.rule.mode in BLOCKING for one in engine.index.rules)
    limits = f"{enforced:,} enforced limit{pluralize(enforced)}"
    if what == "block":
        title = f"Block {whom.text} until {_moment(until)}?"
        effect = (
            f"Every request of {whom.text} that any of {limits} is about is answered with 429, in "
            f"{_processes(engine)} within a second."
        )
    else:
        title = f"Exempt {whom.text} until {_moment(until)}?"
        effect = (
            f"None of {limits} counts or denies {whom.text}, in {_processes(engine)} within a "
            "second."
        )
    said = [effect]
    if drafted.pk is not None:
        said.append("The override that is there for it already is changed.")
    for other in exempting.stronger(whom, drafted):
        said.append(f"For {other.limit} the override that is there stays: it came first.")
    if what == "exempt":
        said.append("A more particular override, such as one of the user, still wins over it.")
    verb = "block" if what == "block" else "exempt"
    return Asked(
        what, title, tuple(said), f"Yes, {verb}", tuple(reasons), target=whom.kind, until=form
    )


def _moment(at: datetime) -> str:
    return timezone.localtime(at).strftime("%d %b %Y, %H:%M")


def _processes(engine: Engine) -> str:
    try:
        number = len(engine.processes.alive())
    except Unavailable:
        return "every process"
    return f"{number:,} process{pluralize(number, 'es')}" if number else "every process"
