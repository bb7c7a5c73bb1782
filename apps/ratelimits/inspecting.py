"""An identity across all limits: where it is counted, how much is used, and forgetting that.

Somebody is known by an address, a user, an API key, a session, or several of these; or by the
digest that stands for them in Redis. A limit counts them where all that it counts by is known.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.contrib.auth.models import AbstractUser

from .engine import Engine
from .explained import SHORT_CHARS, as_counter
from .policy.client_ip import UNKNOWN, client_address
from .policy.explaining import as_counted, canary_text, counted_text, override_text
from .policy.facts import ANONYMOUS, RequestFacts, UserFacts
from .policy.identity import DIGEST_CHARS, identity_parts
from .policy.matching import CompiledRule, applies_to, conditions_of
from .policy.overriding import override_for
from .policy.rules import Algorithm, Audience, CountedBy, Mode, OverrideAction, Rule
from .request_facts import user_facts
from .standings import Bar, bar, look, patiently
from .storage import packing
from .storage.limiter import Target

EVERYONE = ("everyone", "")


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom to look at. ``key_of``: whose API key, in ``header``, as the site names its owner."""

    address: str = ""
    user: AbstractUser | None = None
    header: str = ""
    key_of: str = ""
    session: str = ""
    digest: str = ""

    def __str__(self) -> str:
        if self.digest:
            return f"digest {self.digest[:SHORT_CHARS]}"
        named = [f"address {self.address}"] if self.address else []
        named += [f"user {self.user.get_username()}"] if self.user is not None else []
        named += [f"the key of {self.key_of}"] if self.key_of else []
        named += ["a session"] if self.session else []
        return ", ".join(named)


@dataclass(frozen=True, slots=True)
class Counter:
    """Where an identity stands with one limit. ``said``: what is particular about it there."""

    limit: int
    name: str
    mode: str
    counted: str
    digest: str
    bar: Bar
    said: tuple[str, ...] = ()

    @property
    def denies(self) -> bool:
        return not self.bar.allowed and self.mode == Mode.ENFORCE


@dataclass(frozen=True, slots=True)
class Inspection:
    """``counters``: those that are nearest to their end first. ``apart``: how many limits count by
    something that is not known of this identity; ``together``: by everyone. ``warnings``: whom
    else a reset would free."""

    whom: str
    counters: tuple[Counter, ...]
    apart: int
    together: int
    warnings: tuple[str, ...] = ()

    @property
    def digests(self) -> list[str]:
        return list(dict.fromkeys(one.digest for one in self.counters))

    @property
    def in_use(self) -> list[Counter]:
        return [one for one in self.counters if one.bar.used]

    @property
    def used(self) -> int:
        """Units, over all limits."""
        return sum(one.bar.used for one in self.counters)


def is_digest(text: str) -> bool:
    return re.fullmatch(rf"[A-Za-z0-9_-]{{{DIGEST_CHARS}}}", text) is not None


def inspect(engine: Engine, subject: Subject) -> Inspection:
    """One read, whatever the number of limits (a hundred a call). Raises Unavailable."""
    if subject.digest:
        return _by_digest(engine, subject)
    found, apart, together = [], 0, 0
    facts = RequestFacts("", "", _address(engine, subject))
    user = _user_facts(subject)
    now_us = time.time_ns() // 1000
    for compiled in engine.index.rules:
        if CountedBy.EVERYONE in compiled.rule.counted_by:
            together += 1
            continue
        if not _is_known(compiled.rule, subject):
            apart += 1
            continue
        if not _may_be_about(compiled, subject, facts, user, now_us):
            continue
        asked = as_counted(compiled, engine.limiter.digests.of, facts, user)
        override = override_for(asked, facts, user, now_us)
        rule = override.rule if override else asked.rule
        said = [override_text(override.override, rule)] if override else []
        if canary := canary_text(compiled, rule.mode):
            said.append(canary)
        if override and override.override.action is OverrideAction.QUOTA:
            rule = override.rule
        parts = identity_parts(rule, facts, user)
        own = engine.limiter.digests.of(parts)
        digest = engine.identities.counted_as(rule, own)
        if digest != own:
            said.append("Over its identity budget: new clients are counted together.")
            together += 1
            continue
        found.append((rule, digest, counted_text(parts), tuple(said)))
    return Inspection(str(subject), _counters(engine, found), apart, together)


def _by_digest(engine: Engine, subject: Subject) -> Inspection:
    digest = subject.digest
    asked = packing.command("GET", engine.limiter.keys.bucket(digest))
    raw = patiently(lambda: engine.limiter.redis.ask(asked, "", digest))
    try:
        held = packing.limits_in(raw) if raw else frozenset[int]()
    except ValueError:
        held = frozenset()
    rules = [
        (compiled.canary.of(digest) if compiled.canary else compiled).rule
        for compiled in engine.index.rules
        if compiled.rule.id in held or compiled.rule.rate.algorithm is Algorithm.CONCURRENCY
    ]
    counters = _counters(engine, [(rule, digest, "", ()) for rule in rules])
    used = tuple(one for one in counters if one.bar.used or not one.bar.allowed)
    return Inspection(str(subject), used, 0, 0, tuple(_shared(engine, digest)))


def _shared(engine: Engine, digest: str) -> Iterator[str]:
    of = engine.limiter.digests.of
    if digest == of(EVERYONE):
        yield "This digest stands for everyone together: a reset frees all clients."
    for compiled in engine.index.rules:
        if digest == of(("overflow", str(compiled.rule.id))):
            yield (
                f"This digest stands for all new clients of {compiled.rule.name}, which is over "
                "its identity budget: a reset frees all of them."
            )


def _counters(
    engine: Engine, found: Sequence[tuple[Rule, str, str, tuple[str, ...]]]
) -> tuple[Counter, ...]:
    verdicts = look(engine, [Target(rule, digest) for rule, digest, _, _ in found])
    counters = [
        Counter(rule.id, rule.name, str(rule.mode), counted, digest, bar(verdict), said)
        for (rule, digest, counted, said), verdict in zip(found, verdicts, strict=True)
    ]
    return tuple(sorted(counters, key=lambda one: (-one.bar.percent, one.name)))


def _address(engine: Engine, subject: Subject) -> str:
    if not subject.address:
        return UNKNOWN
    return client_address(subject.address, "", (), engine.config.ipv6_prefix)


def _user_facts(subject: Subject) -> UserFacts:
    user = user_facts(subject.user) if subject.user is not None else ANONYMOUS
    keys = ((subject.header.lower(), subject.key_of),) if subject.key_of else ()
    return replace(user, session=subject.session, keys=keys)


def _is_known(rule: Rule, subject: Subject) -> bool:
    """Whether each part that it counts by is known, or counts by the address, which is."""
    has = {
        CountedBy.USER: subject.user is not None,
        CountedBy.SESSION: bool(subject.session),
        CountedBy.HEADER: bool(subject.key_of) and subject.header.lower() == rule.header,
    }
    by_address = bool(subject.address)
    return all(
        by != CountedBy.VIEW_ARGUMENT and (has.get(by, False) or by_address)
        for by in rule.counted_by
    )


def _may_be_about(
    compiled: CompiledRule, subject: Subject, facts: RequestFacts, user: UserFacts, now_us: int
) -> bool:
    """Not where the limit leaves out such an address, or who is counted so is never one of those
    whom it is about: an address that stands for a missing user is an anonymous visitor's."""
    rule = compiled.rule
    if subject.address:
        for name, holds in conditions_of(rule, None):
            if name.startswith("networks") and not holds(facts, now_us):
                return False
    if subject.user is not None:
        return applies_to(rule, user)
    if CountedBy.USER in rule.counted_by:
        return rule.audience in (Audience.EVERYONE, Audience.ANONYMOUS) and not rule.groups
    return True


def reset(engine: Engine, found: Inspection) -> int:
    """Forget what is counted of an identity, in every limit and process. Returns how many keys
    went. Raises Unavailable."""
    digests = found.digests
    if not digests:
        return 0
    return engine.reset(digests, [compiled.rule for compiled in engine.index.rules])


def as_dict(found: Inspection) -> dict[str, Any]:
    """For programs."""
    return {
        "whom": found.whom,
        "limits": [
            {
                "name": one.name,
                "mode": one.mode,
                "counted_by": one.counted,
                "digest": one.digest,
                "denies": one.denies,
                "said": list(one.said),
                "counter": as_counter(one.bar),
            }
            for one in found.counters
        ],
        "need_more_to_be_known": found.apart,
        "count_everyone_together": found.together,
        "warnings": list(found.warnings),
    }
