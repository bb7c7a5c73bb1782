"""Why a request is allowed or denied: typed in, or one that was denied. Nothing is charged.

Joins what the matching says (policy/explaining.py) with the counters as they stand. The admin's
page and ``manage.py ratelimit explain`` show the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser, Group
from django.db import Error as DatabaseFailure
from django.http import HttpRequest

from . import conf, ruleset
from .caller import Callers
from .engine import Engine
from .exempt_paths import ExemptPaths
from .explained import SHORT_CHARS, Explanation, Row, shown, verdict, verdict_of_denial
from .models import Override, RateLimit
from .policy.client_ip import UNKNOWN, derivation
from .policy.errors import PolicyError
from .policy.explaining import (
    Considered,
    Outcome,
    Part,
    as_counted,
    canary_text,
    consider,
    counted_text,
    override_text,
    steps,
)
from .policy.facts import ANONYMOUS, RequestFacts, UserFacts
from .policy.matching import CompiledRule, compile_rule
from .policy.rules import CountedBy, Mode
from .request_facts import request_facts, user_facts
from .standings import bar, look
from .storage.denied import Denial
from .storage.errors import Unavailable
from .storage.limiter import Target

NOTHING_NOTED: Mapping[int, str] = {}


@dataclass(frozen=True, slots=True)
class Question:
    """A request as somebody types it. ``path`` is as the resolver sees it: decoded. ``address`` is
    the connection's, ``forwarded_for`` the header X-Forwarded-For; ``headers`` others by name."""

    method: str = "GET"
    path: str = "/"
    host: str = ""
    address: str = ""
    forwarded_for: str = ""
    user: AbstractUser | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def explain(engine: Engine, question: Question) -> Explanation:
    """What would become of such a request now."""
    config = conf.current()
    request = _request(question)
    now_us = time.time_ns() // 1000
    facts = request_facts(request, config, with_route=True)
    found = derivation(
        question.address, question.forwarded_for, config.trusted_proxies, config.ipv6_prefix
    )
    limits = _limits(engine)
    user = user_facts(question.user) if question.user is not None else ANONYMOUS
    user = replace(user, keys=Callers(config.key_validator).keys(request, limits))
    unknown = frozenset({Part.HOST} if not question.host else set())
    considered = _consider(engine, limits, facts, user, now_us, unknown)
    rows = _rows(engine, considered, {})
    notes = list(_notes(engine, question, facts, user, limits))
    exempt = _exempt(question, config)
    text, allowed = verdict(rows, considered)
    if exempt:
        text, allowed = exempt, True
    elif config.disabled:
        text, allowed = "Allowed: nothing is enforced (IOTA_DISABLED).", True
    return Explanation(
        request=f"{facts.method} {facts.path}",
        verdict=text,
        allowed=allowed,
        address=facts.address,
        who=_who(question.user, user),
        steps=steps(found, bool(config.trusted_proxies)),
        notes=tuple(notes),
        rows=shown(rows),
        more=len(rows) - len(shown(rows)),
        version=engine.version,
    )


def explain_denial(engine: Engine, denial: Denial) -> Explanation:
    """Why a request of a while ago was denied, and how its counters stand now. Where names are not
    kept it is known by digests alone: what cannot be told is said."""
    now_us = time.time_ns() // 1000
    names = dict(pair for own in denial.names.values() for pair in own)
    unknown = {Part.USER, Part.HOST, Part.KEYS, Part.SESSION, Part.ARGUMENTS}
    address, user = UNKNOWN, ANONYMOUS
    if "address" in names:
        address = names["address"]
    else:
        unknown.add(Part.ADDRESS)
    if not denial.whole:
        unknown.add(Part.PATH)
    person = _user(names.get("user", ""))
    if person is not None:
        user = user_facts(person)
        unknown.discard(Part.USER)
    facts = RequestFacts(denial.method, denial.path, address, route=denial.view)
    counted = dict(denial.counted)
    considered = [
        _as_noted(compiled, one, counted)
        for compiled, one in _consider(
            engine, _limits(engine), facts, user, now_us, frozenset(unknown), counted
        )
    ]
    rows = _rows(engine, considered, counted, denial)
    gone = set(denial.denied) - {row.limit for row in rows}
    notes = ["It is known by digests alone: addresses and users are not kept (IOTA_DENIED_NAMES)."]
    if names:
        notes = []
    if not denial.whole:
        notes.append("What stood in the path is not kept: a digest stands for it, after a ~.")
    if gone:
        notes.append("A limit that denied it has been deleted or switched off since.")
    return Explanation(
        request=f"{denial.method} {denial.path}",
        verdict=verdict_of_denial(denial, rows),
        allowed=False,
        address=names.get("address", f"digest {denial.address[:SHORT_CHARS]}"),
        who=_who(person, user) if person is not None else "not known",
        steps=(),
        notes=tuple(notes),
        rows=shown(rows),
        more=len(rows) - len(shown(rows)),
        version=engine.version,
        denial=denial,
    )


def _request(question: Question) -> HttpRequest:
    """As a server would make it."""
    request = HttpRequest()
    request.method = question.method
    request.path = request.path_info = question.path
    named = {f"HTTP_{name.upper().replace('-', '_')}": v for name, v in question.headers.items()}
    request.META = {
        **named,
        "REMOTE_ADDR": question.address,
        "HTTP_X_FORWARDED_FOR": question.forwarded_for,
        "HTTP_HOST": question.host,
        "SERVER_NAME": "",
        "SERVER_PORT": "80",
    }
    return request


def _exempt(question: Question, config: conf.RateLimitConfig) -> str:
    """As the middleware has it; empty where the request is limited."""
    if why := ExemptPaths(config).why(question.path):
        return f"Allowed: {why}."
    headers = {name.lower() for name in question.headers}
    asked = {"origin", "access-control-request-method"} <= headers
    if config.exempt_preflight and question.method == "OPTIONS" and asked:
        return "Allowed: CORS preflights are never limited (IOTA_EXEMPT_PREFLIGHT)."
    return ""


def _limits(engine: Engine) -> list[CompiledRule]:
    """Those in force here, those that are switched off, and drafts."""
    return [*engine.index.rules, *_off({compiled.rule.id for compiled in engine.index.rules})]


def _off(in_force: set[int]) -> Iterator[CompiledRule]:
    try:
        limits = list(
            RateLimit.objects.filter(mode__in=(RateLimit.Mode.OFF, RateLimit.Mode.DRAFT))
            .exclude(pk__in=in_force)
            .prefetch_related("groups")
        )
        overrides = list(Override.objects.all()) if limits else []
    except DatabaseFailure:
        return
    for limit in limits:
        try:
            yield compile_rule(ruleset.with_overrides(limit, overrides))
        except PolicyError:
            continue


def _consider(
    engine: Engine,
    limits: Sequence[CompiledRule],
    facts: RequestFacts,
    user: UserFacts,
    now_us: int,
    unknown: frozenset[Part],
    noted: Mapping[int, str] = NOTHING_NOTED,
) -> list[tuple[CompiledRule, Considered]]:
    wanted = {group for compiled in limits for group in compiled.rule.groups}
    groups = {}
    if wanted:
        rows = Group.objects.filter(pk__in=wanted).values_list("pk", "name")
        groups = {str(pk): name for pk, name in rows}
    digest_of = engine.limiter.digests.of
    found = []
    for one in limits:
        known = noted.get(one.rule.id, "")
        asked = as_counted(one, digest_of, facts, user, unknown, known)
        found.append((one, consider(asked, facts, user, now_us, unknown=unknown, groups=groups)))
    return found


def _as_noted(
    compiled: CompiledRule, one: Considered, counted: Mapping[int, str]
) -> tuple[CompiledRule, Considered]:
    """What was noted of the denial wins over what can be told of it now."""
    if compiled.rule.id not in counted or one.outcome is Outcome.COUNTS:
        return compiled, one
    return compiled, replace(one, outcome=Outcome.COUNTS, parts=())


def _rows(
    engine: Engine,
    considered: Sequence[tuple[CompiledRule, Considered]],
    counted: Mapping[int, str],
    denial: Denial | None = None,
) -> list[Row]:
    rows, targets = [], []
    for compiled, one in considered:
        rule = one.rule
        digest, shared = counted.get(rule.id, ""), False
        if not digest and denial is None and one.parts:
            own = engine.limiter.digests.of(one.parts)
            digest = engine.identities.counted_as(rule, own)
            shared = digest != own
        if denial is not None and not digest and one.outcome is not Outcome.MISSES:
            one = replace(one, outcome=Outcome.UNTOLD)
        if digest:
            targets.append(Target(rule, digest))
        rows.append(
            Row(
                limit=rule.id,
                name=rule.name,
                mode=str(rule.mode),
                outcome=one.outcome,
                said=tuple(_said(compiled, one, shared, noted=denial is not None)),
                counted=counted_text(one.parts) if denial is None or denial.names else "",
                digest=digest,
                bucket=engine.limiter.keys.bucket(digest) if digest else "",
                shared=shared,
            )
        )
    try:
        bars = {verdict.rule.id: verdict for verdict in look(engine, targets)}
    except Unavailable:
        return rows
    return [
        replace(
            row,
            bar=bar(bars[row.limit]),
            denies=not bars[row.limit].allowed and row.mode == Mode.ENFORCE,
        )
        if row.limit in bars
        else row
        for row in rows
    ]


def _said(compiled: CompiledRule, one: Considered, shared: bool, *, noted: bool) -> Iterator[str]:
    yield from one.misses
    if one.override is not None:
        yield override_text(one.override, compiled.rule)
    if one.outcome is Outcome.UNTOLD:
        if noted:
            yield f"It did not count the request: that could be its {_parts(one.untold)}."
        else:
            yield f"It may or may not match: {_parts(one.untold)} would have to be known."
    elif one.outcome is Outcome.COUNTS and one.untold and not noted:
        yield f"{_parts(one.untold).capitalize()} would have to be known to say whom it counts."
    for by in one.instead:
        if not noted:
            yield f"{_INSTEAD.get(by, 'It lacks what is counted by')}: its address counts instead."
    if shared:
        yield "Over its identity budget: new clients are counted together."
    if one.outcome is Outcome.COUNTS and (said := canary_text(compiled, one.rule.mode)):
        yield said
    elif one.outcome is Outcome.COUNTS and one.rule.mode is Mode.SHADOW:
        yield "In shadow: it counts, and blocks nobody."
    if one.outcome is Outcome.COUNTS and one.rule.lease:
        yield "Processes may hold units that they took ahead: they count as used."


_INSTEAD = {
    CountedBy.USER: "Nobody is signed in",
    CountedBy.SESSION: "There is no known session",
    CountedBy.HEADER: "No key that the site knows",
    CountedBy.VIEW_ARGUMENT: "The view has no such argument",
}


def _parts(parts: Sequence[Part]) -> str:
    return ", ".join(parts) or "user, host or headers"


def _notes(
    engine: Engine,
    question: Question,
    facts: RequestFacts,
    user: UserFacts,
    limits: Sequence[CompiledRule],
) -> Iterator[str]:
    if engine.version < 0:
        yield "This process has no limits yet: neither Redis nor the database gave them."
    if question.host and not facts.host:
        yield f"Django refuses the host {question.host} with 400 (ALLOWED_HOSTS)."
    if facts.route:
        yield f"The view is {facts.route}."
    else:
        yield "No view knows this path: it would be answered with 404, and is limited all the same."
    asked = {header for compiled in limits for header in compiled.headers}
    known = dict(user.keys)
    for name in question.headers:
        if name.lower() in known:
            yield f"{name} holds the key of {known[name.lower()]}."
        elif name.lower() in asked:
            yield f"{name} holds no key that the site knows (IOTA_KEY_VALIDATOR)."


def _who(person: AbstractUser | None, user: UserFacts) -> str:
    if person is None:
        return "anonymous"
    said = [f"user {person.get_username()} ({user.pk})"]
    said += ["staff"] if user.is_staff else []
    return ", ".join(said)


def _user(pk: str) -> Any:
    if not pk:
        return None
    model = get_user_model()
    try:
        return model._default_manager.filter(pk=pk).first()
    except (ValueError, TypeError):
        return None
