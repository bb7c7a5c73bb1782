"""The limits: what is in force, and the form that edits one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from hashlib import blake2b
from typing import Any, NamedTuple

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.defaultfilters import pluralize
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from .. import raised, ruleset, wording
from ..engine import get_engine
from ..models import RateLimit
from ..models.entries import in_last_entry
from ..policy.errors import PolicyError
from ..policy.rules import CountedBy
from ..storage.errors import Unavailable
from ..validators import METHODS, split_lines, validate_methods
from . import lockout, publishing
from .base import CheckboxSelectMultiple, PublishedAdmin, Select
from .edit_form import LimitEditForm
from .edit_text import NOTHING_DONE
from .edits import EditsPage
from .exchange import ExchangesLimits
from .explain import Explains
from .identities import ShowsIdentities
from .in_code import TellsWhatCodeUses
from .in_force import TellsWhatIsInForce
from .keeping import TellsWhoIsCounted
from .life_cycle import PhaseFilter, TellsTheLifeCycle
from .preview import PreviewsLimits
from .usage import DeniedFilter, ShowsUsage

MOST_TYPED = 3
"""Limits whose names a person would type; of more, all are switched off together."""


class CountedByField(forms.MultipleChoiceField):
    """Ticks on the page, the model's comma-separated text behind it."""

    def prepare_value(self, value: Any) -> Any:
        return list(split_lines(value)) if isinstance(value, str) else value

    def clean(self, value: Any) -> str:
        return ",".join(super().clean(value))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


class CountedByFilter(admin.SimpleListFilter):
    title = "counted by"
    parameter_name = "counted_by"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, value.replace("_", " ").capitalize()) for value in RateLimit.CountedBy]

    def queryset(self, request: HttpRequest, queryset: QuerySet[RateLimit]) -> QuerySet[RateLimit]:
        # No value is a part of another's name.
        value = self.value()
        return queryset.filter(counted_by__contains=value) if value else queryset


def _signals() -> list[tuple[str, str]]:
    return [("", "---------"), *((name, name) for name in raised.known())]


class RateLimitForm(LimitEditForm):
    start_afresh = forms.BooleanField(
        required=False,
        help_text="Forget what has been counted so far: everyone begins with a full quota. "
        "Another algorithm always does.",
    )

    counted_by = CountedByField(
        choices=RateLimit.CountedBy,
        initial=[RateLimit.CountedBy.ADDRESS],
        widget=CheckboxSelectMultiple,
        help_text="Who lacks one (anonymous, no known session or key) counts by address. "
        "Several together: each combination has its own quota.",
    )

    signal = forms.ChoiceField(
        required=False,
        widget=Select,
        choices=_signals,
        help_text=RateLimit._meta.get_field("signal").help_text,
    )

    class Meta:
        model = RateLimit
        fields = "__all__"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is None and "start_afresh" in self.fields:
            # A limit that is new has counted nothing: there is nothing to forget.
            self.fields["start_afresh"].widget = forms.HiddenInput()

    def save(self, commit: bool = True) -> RateLimit:
        # What one algorithm has counted means something else to another.
        if self.cleaned_data.get("start_afresh") or "algorithm" in self.changed_data:
            self.instance.epoch += 1
        return super().save(commit)  # type: ignore[no-any-return]

    def reasons(self) -> Sequence[str]:
        groups = self.cleaned_data.get("groups", ())
        return lockout.LockOut(self.request).reasons_of_limit(self.instance, groups=groups)

    def clean_methods(self) -> str:
        text = self.cleaned_data["methods"].upper()
        validate_methods(text)
        chosen = split_lines(text)
        return ",".join(method for method in METHODS if method in chosen)


@admin.register(RateLimit)
class RateLimitAdmin(
    Explains,
    ShowsIdentities,
    ExchangesLimits,
    PreviewsLimits,
    TellsTheLifeCycle,
    TellsWhoIsCounted,
    ShowsUsage,
    TellsWhatCodeUses,
    TellsWhatIsInForce,
    EditsPage,
    PublishedAdmin,
):
    form = RateLimitForm
    list_display = (
        "name",
        "covers",
        "rate",
        "algorithm",
        "shown_mode",
        "when",
        "denied_lately",
        "updated_at",
    )
    list_filter = (
        "mode",
        PhaseFilter,
        DeniedFilter,
        "algorithm",
        CountedByFilter,
        "path_kind",
    )
    actions_detail = ("usage",)
    search_fields = ("name", "path", "host", "message")
    autocomplete_fields = ("groups",)
    readonly_fields = ("identities_now", "counted_now", "used_in_code")
    actions = ("shadow", "canary", "enforce", "switch_off")
    list_filter_submit = False
    warn_unsaved_form = True
    change_form_before_template = "ratelimits/sentence.html"
    fieldsets = (
        (None, {"fields": ("name", ("mode", "canary_percent"), "lock_out")}),
        (
            "Which requests",
            {"fields": (("path_kind", "path"), ("methods", "host"), "used_in_code")},
        ),
        (
            "Who",
            {
                "fields": (
                    "audience",
                    "groups",
                    ("networks", "networks_excluded"),
                    "counted_by",
                    "header",
                    "view_argument",
                    "identities",
                    "identities_now",
                )
            },
        ),
        (
            "How much",
            {
                "fields": (
                    "algorithm",
                    "quota",
                    ("window_amount", "window_unit"),
                    "cost",
                    "burst",
                    "lease",
                    "counts",
                    "statuses",
                    "signal",
                    "start_afresh",
                    "counted_now",
                )
            },
        ),
        (
            "What happens",
            {
                "fields": (
                    "charge_denied",
                    ("block_amount", "block_unit"),
                    "message",
                    "on_failure",
                    "active_from",
                    "active_until",
                )
            },
        ),
    )

    @admin.display(description="covers", ordering="path")
    def covers(self, limit: RateLimit) -> str:
        return wording.coverage(limit)

    @admin.display(description="rate", ordering="quota")
    def rate(self, limit: RateLimit) -> str:
        return wording.rate_text(limit)

    @admin.display(description="different clients now")
    def identities_now(self, limit: RateLimit) -> str:
        """How the limit stands against its identity budget, as Redis has it."""
        # The theme asks for each value several times: Redis is asked once.
        known: dict[str, Any] = vars(limit)
        if "_identities_now" not in known:
            known["_identities_now"] = _identities_now(limit)
        return str(known["_identities_now"])

    @admin.action(description="Enforce selected limits", permissions=["publish"])
    def enforce(self, request: HttpRequest, queryset: QuerySet[RateLimit]) -> HttpResponse | None:
        """Asks first where one of them would lock this person out, or stop health checks."""
        return self._deny(request, queryset, RateLimit.Mode.ENFORCE)

    @admin.action(
        description="Canary selected limits: enforce for their percentage of clients",
        permissions=["publish"],
    )
    def canary(self, request: HttpRequest, queryset: QuerySet[RateLimit]) -> HttpResponse | None:
        """Asks as ``enforce`` does: staff may be in it."""
        return self._deny(request, queryset, RateLimit.Mode.CANARY)

    def _deny(
        self, request: HttpRequest, queryset: QuerySet[RateLimit], mode: RateLimit.Mode
    ) -> HttpResponse | None:
        asked = _Asked(request, queryset, mode)
        if publishing.lacks_reason(request, (), comes=asked.of > 0):
            self.message_user(request, NOTHING_DONE, messages.ERROR)
            return None
        answer = request.POST.get("confirmed")
        if asked.speaking and (not answer or request.POST.get("told") != asked.told):
            return self._ask(request, asked, again=bool(answer))
        chosen = asked.harmless if answer == "harmless" else [*asked.harmless, *asked.harmful]
        self._set_mode(request, chosen, mode, of=len(queryset))
        for limit, why in asked.broken:
            self.message_user(
                request, f"{limit} was left as it is. It cannot {asked.verb}: {why}.",
                messages.WARNING,
            )  # fmt: skip
        return None

    def _ask(self, request: HttpRequest, asked: _Asked, *, again: bool) -> HttpResponse:
        if again:
            said = "Limits or overrides were edited meanwhile: please look once more."
            self.message_user(request, said, messages.WARNING)
        context = {
            **self.admin_site.each_context(request),
            "title": f"{asked.mode.label} {asked.of:,} limit{pluralize(asked.of)}?",
            "opts": self.model._meta,
            "media": self.media,
            "asked": asked,
            "reason": publishing.reason(request),
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "select_across": request.POST.get("select_across"),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "ratelimits/enforce_confirmation.html", context)

    @admin.action(description="Shadow selected limits: count, never block", permissions=["change"])
    def shadow(self, request: HttpRequest, queryset: QuerySet[RateLimit]) -> None:
        self._set_mode(request, queryset, RateLimit.Mode.SHADOW, of=len(queryset))

    @admin.action(description="Switch selected limits off", permissions=["change"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[RateLimit]) -> None:
        self._set_mode(request, queryset, RateLimit.Mode.OFF, of=len(queryset))

    def _set_mode(
        self, request: HttpRequest, limits: Iterable[RateLimit], mode: RateLimit.Mode, *, of: int
    ) -> None:
        """Saved one by one: each change belongs in the history and the audit log."""
        limits = publishing.theirs(request, limits)
        if publishing.lacks_reason(request, (limit for limit in limits if limit.mode != mode)):
            self.message_user(request, NOTHING_DONE, messages.ERROR)
            return
        changed = 0
        for limit in limits:
            if limit.mode == mode:
                continue
            limit.mode = mode
            publishing.with_reason(request, limit)
            limit.save()
            self.log_change(request, limit, f"Mode set to {mode.value}.")
            changed += 1
        self.message_user(request, f"{changed} of {of} changed to {mode.value}.")

    class Media:
        css = {"all": ["ratelimits/usage.css", "ratelimits/preview.css"]}
        js = (
            forms.Script("ratelimits/limit_form.js", defer=True),
            forms.Script("ratelimits/preview.js", defer=True),
        )

    def get_urls(self) -> list[Any]:
        worded = require_POST(self.admin_site.admin_view(self.sentence_view))
        return [path("sentence/", worded, name="ratelimits_sentence"), *super().get_urls()]

    def sentence_view(self, request: HttpRequest) -> HttpResponse:
        """The limit that the posted form describes, in words; nothing is saved."""
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        form = self.get_form(request)(request.POST)
        form.is_valid()
        needed = {"mode", "quota", "window_amount", "window_unit", "cost", "lease", "counted_by"}
        if form.data.get("mode") == RateLimit.Mode.CANARY:
            needed.add("canary_percent")
        if missing := needed.difference(form.cleaned_data):
            named = [form[name] for name in sorted(missing)]
            wrong = [f"{field.label}: {field.errors[0]}" for field in named if field.data]
            empty = ", ".join(str(field.label).lower() for field in named if not field.data)
            text = " ".join([*wrong, *([f"Still to fill in: {empty}."] if empty else [])])
        else:
            text = wording.sentence(form.instance, form.cleaned_data.get("groups", ()))
        return HttpResponse(text, content_type="text/plain; charset=utf-8")

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponseBase:
        limit = self.get_object(request, object_id) if object_id else None
        edits = limit is None or self.has_change_permission(request, limit)
        context = {
            "sentence": wording.sentence(limit, limit.groups.all()) if limit else "",
            "sentence_url": reverse("admin:ratelimits_sentence") if edits else "",
            **(extra_context or {}),
        }
        return super().changeform_view(request, object_id, form_url, context)

    def save_related(self, request: HttpRequest, form: Any, *args: Any) -> None:
        with in_last_entry(form.instance):
            super().save_related(request, form, *args)

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        form.request = request
        return form


class _Speaking(NamedTuple):
    limit: RateLimit
    sentence: str
    reasons: tuple[str, ...]


class _Asked:
    """The limits that are to be enforced, or to be canaries, by what speaks against it."""

    def __init__(
        self, request: HttpRequest, limits: Iterable[RateLimit], mode: RateLimit.Mode
    ) -> None:
        self.mode = mode
        lock_out = lockout.LockOut(request)
        self.limits = list(limits)
        self.harmless: list[RateLimit] = []
        self.speaking: list[_Speaking] = []
        self.broken: list[tuple[RateLimit, PolicyError]] = []
        for limit in self.limits:
            if limit.mode == mode:
                continue
            as_enforced = copy(limit)
            as_enforced.mode = mode
            try:
                reasons = lock_out.reasons_of_limit(as_enforced)
            except PolicyError as error:
                self.broken.append((limit, error))
                continue
            if reasons:
                said = wording.sentence(as_enforced, limit.groups.all())
                self.speaking.append(_Speaking(limit, said, reasons))
            else:
                self.harmless.append(limit)

    @property
    def harmful(self) -> list[RateLimit]:
        return [speaking.limit for speaking in self.speaking]

    @property
    def of(self) -> int:
        return len(self.harmless) + len(self.speaking)

    @property
    def verb(self) -> str:
        return "be a canary" if self.mode == RateLimit.Mode.CANARY else "be enforced"

    @property
    def way_back(self) -> str:
        """The command that switches them off again."""
        names = " ".join(limit.name for limit in self.harmful[:MOST_TYPED])
        return (
            f"manage.py ratelimit disable {names if self.harmful[MOST_TYPED:] == [] else '--all'}"
        )

    @property
    def told(self) -> str:
        """Of what the page said: what was confirmed is that, and nothing that came later."""
        texts = [f"{s.limit.pk} {' '.join(s.reasons)}" for s in self.speaking]
        return blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()


def _identities_now(limit: RateLimit) -> str:
    if limit.pk is None:
        return "Nobody yet: the limit is new."
    if CountedBy.EVERYONE in limit.as_counted_by():
        return "Everyone is one count."
    try:
        rule = ruleset.as_rule(limit, [])
        return wording.identities(get_engine().identity_count(rule), timezone.now())
    except PolicyError:
        return "Nobody: the limit cannot be enforced as it is."
    except Unavailable:
        return "Not known: Redis does not answer."
