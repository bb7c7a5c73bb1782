"""Asks for limits by name: those of one call in one trip, all or none.

A limit that is asked so matches by what staff wrote of methods, host, networks, time and audience,
as far as it is known of whom code asks for; its path does not matter. In one request a limit is
charged once for one identity, whoever asks: what the middleware has charged by path is not charged
again. Of two asks at the same moment, as by asyncio.gather, each charges.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest

from . import conf, used_in_code
from .caller import Callers
from .engine import Engine, get_engine
from .errors import UnknownLimit
from .planning import Plan
from .policy.client_ip import client_address
from .policy.decision import ALLOWED, Decision
from .policy.facts import ANONYMOUS, RequestFacts, UserFacts
from .policy.matching import CompiledRule, Condition, Index, conditions_by_name
from .policy.named import (
    NOBODY,
    PARTS,
    Named,
    counted_apart,
    known_conditions,
    too_dear,
    with_cost,
)
from .request_facts import request_facts
from .storage.packing import PackedLimits

logger = logging.getLogger(__name__)

Identity = str | int | Mapping[str, Any]
MOST_COSTS = 1_024
"""So many pairs of limits and a cost are kept packed; costs that vary more are packed anew."""


def ask(
    names: Sequence[str],
    *,
    request: HttpRequest | None = None,
    cost: int | None = None,
    identity: Identity | None = None,
    charge: bool = True,
) -> Decision:
    """Decide the limits of these names for a request, for whom code names, or for both: the
    request's conditions, another identity. ``request`` may be one of Django REST framework.

    Raises UnknownLimit where a name is nobody's and IOTA_UNKNOWN_LIMIT says so; ValueError for a
    cost or an identity that is none.
    """
    if conf.current().disabled:
        return ALLOWED
    engine = get_engine()
    engine.start()
    asking = _asking(engine, names, request, cost, identity)
    if isinstance(asking, Decision):
        return asking
    return asking.decide(_user(asking), charge=charge)


async def aask(
    names: Sequence[str],
    *,
    request: HttpRequest | None = None,
    cost: int | None = None,
    identity: Identity | None = None,
) -> Decision:
    """``ask`` on the running event loop."""
    if conf.current().disabled:
        return ALLOWED
    engine = get_engine()
    if not engine.started:
        await asyncio.to_thread(engine.start)
    asking = _asking(engine, names, request, cost, identity)
    if isinstance(asking, Decision):
        return asking
    return await asking.adecide(await _auser(asking))


@dataclass(frozen=True, slots=True)
class _Asking:
    """What is to be asked, once it is known who the user is. ``user``: as code names one, an object
    or a primary key."""

    engine: Engine
    rules: Sequence[CompiledRule]
    facts: RequestFacts
    request: HttpRequest | None
    cost: int | None
    named: Named | None
    user: Any = None

    def plan(self, user: UserFacts) -> tuple[Plan, Decision | None]:
        """Whom each limit counts, at this cost, without what the request was charged for before;
        with the denial where it could never pass."""
        now_us = time.time_ns() // 1000
        in_force = _in_force(self.engine.index)
        facts, rules = self.facts, list(self.rules)
        if self.named is not None:
            user = self.named.user(user, rules)
            facts = self.named.facts(facts, rules)
        rules = [
            in_force.variant(compiled, self.named, self.knows_user)
            for compiled in rules
            if all(holds(facts, now_us) for holds in in_force.conditions(compiled, facts))
        ]
        plan = self.engine.plan(rules, facts, user)
        if self.request is not None:
            plan = _without(self.engine, plan, _done(self.request))
        if self.cost is None or plan.limits is None:
            return plan, None
        limits = in_force.at_cost(self.engine, plan.limits, self.cost)
        if isinstance(limits, Decision):
            return plan, limits
        return Plan(limits, plan.whom, own=plan.own), None

    @property
    def knows_user(self) -> bool:
        """Whether it can be told if a limit for some users is about this one."""
        return self.request is not None or self.user is not None

    def decide(self, user: UserFacts, *, charge: bool) -> Decision:
        """``Engine.decide`` for these limits."""
        began_ns = time.perf_counter_ns()
        plan, refused = self.plan(user)
        decision = refused or self.engine.check(plan, charge=charge)
        if charge:
            self._counted(plan, decision, began_ns, user)
        return decision

    async def adecide(self, user: UserFacts) -> Decision:
        began_ns = time.perf_counter_ns()
        plan, refused = self.plan(user)
        decision = refused or await self.engine.acheck(plan)
        self._counted(plan, decision, began_ns, user)
        return decision

    def _counted(self, plan: Plan, decision: Decision, began_ns: int, user: UserFacts) -> None:
        if decision is ALLOWED:
            return
        self.engine.tally.checked(plan.limits, decision, time.perf_counter_ns() - began_ns)
        if not decision.allowed:
            facts = self.facts
            if self.named is not None:
                user = self.named.user(user, self.rules)
                facts = self.named.facts(facts, self.rules)
            self.engine.note_denied(plan, decision, facts, user)
        elif self.request is not None:
            _done(self.request).update(_charged(plan))


def _asking(
    engine: Engine,
    names: Sequence[str],
    request: HttpRequest | None,
    cost: int | None,
    identity: Identity | None,
) -> _Asking | Decision:
    if cost is not None and (cost.__class__ is not int or cost < 0):
        raise ValueError(f"a cost of {cost!r}: use a whole number of units, 0 for none")
    if request is None and identity is None:
        identity = ""  # Whoever asks is one.
    user, named = None, None
    if identity is not None:
        user, named = _named(engine, identity)
    if cost == 0:
        return ALLOWED
    if engine.version < 0:
        return engine.without_limits() or ALLOWED
    rules = by_name(engine, names)
    if isinstance(rules, Decision):
        return rules
    if not rules:
        return ALLOWED
    facts = NOBODY
    if request is not None:
        facts = request_facts(
            django_request(request),
            engine.config,
            with_route=any(compiled.rule.needs_route for compiled in rules),
            with_host=any(compiled.rule.host for compiled in rules),
        )
    return _Asking(engine, rules, facts, request, cost, named, user)


def by_name(engine: Engine, names: Sequence[str]) -> list[CompiledRule] | Decision:
    """Those that are in force; a denial where one is nobody's and IOTA_UNKNOWN_LIMIT says so.
    Raises UnknownLimit."""
    rules = []
    for name in dict.fromkeys(names):
        compiled = engine.index.by_name.get(name)
        if compiled is not None:
            rules.append(compiled)
        elif name not in engine.index.off and (refused := _unknown(engine, name)):
            return refused
    return rules


def _named(engine: Engine, identity: Identity) -> tuple[Any, Named]:
    """The user whom code names, if any, and all that it names."""
    if not isinstance(identity, Mapping):
        return None, Named(str(identity))
    parts = {}
    for name, value in identity.items():
        value = getattr(value, "pk", value)
        if value is not None:  # As of an anonymous user, or a request without a key.
            parts[str(name)] = str(value)
    user = identity.get("user") if "user" in parts else None
    if unknown := parts.keys() - set(PARTS.values()):
        raise ValueError(
            f"an identity with {', '.join(sorted(unknown))}: use {', '.join(PARTS.values())}, or "
            "give a text"
        )
    if "address" in parts:
        prefix = engine.config.ipv6_prefix
        parts["address"] = client_address(parts["address"], "", (), prefix)
    return user, Named.by_parts(parts)


def _unknown(engine: Engine, name: str) -> Decision | None:
    """What a request is told that names nobody's limit; None: it is let pass."""
    then = engine.config.unknown_limit
    if then == "raise":
        raise UnknownLimit(name)
    if used_in_code.note_unknown(name):
        logger.warning(
            "Code asks for the limit %r, which nobody has made: %s. Make it in the admin; "
            "IOTA_UNKNOWN_LIMIT says what happens until then.",
            name,
            "it is denied" if then == "deny" else "it is let pass",
        )
    return Decision(False, unavailable=True) if then == "deny" else None


def django_request(request: Any) -> HttpRequest:
    """Of one of Django REST framework, the one that it wraps."""
    found: HttpRequest = getattr(request, "_request", request)
    return found


def _done(request: HttpRequest) -> set[tuple[int, str]]:
    """The limits that the request was charged for, each with the digest of whom it counted."""
    request = django_request(request)
    done: set[tuple[int, str]] | None = getattr(request, "_rate_limits_done", None)
    if done is None:
        by_path: Plan = getattr(request, "_rate_limit_plan", None) or Plan()
        done = set(_charged(by_path))
        request._rate_limits_done = done  # type: ignore[attr-defined]
    return done


def _charged(plan: Plan) -> list[tuple[int, str]]:
    """Each limit with the digest of whom it counts: their own, also where it counts all new ones
    as one."""
    if plan.limits is None:
        return []
    whom = plan.own or [plan.whom[place] for place in plan.limits.places]
    return [(rule.id, who) for rule, who in zip(plan.limits.rules, whom, strict=True)]


def _without(engine: Engine, plan: Plan, done: AbstractSet[tuple[int, str]]) -> Plan:
    """What is left of a plan, if anything."""
    charged = _charged(plan)
    if plan.limits is None or done.isdisjoint(charged):
        return plan
    kept = [at for at, one in enumerate(charged) if one not in done]
    if not kept:
        return Plan()
    counted = [plan.whom[plan.limits.places[at]] for at in kept]
    whom = tuple(dict.fromkeys(counted))
    limits = engine.limiter.limits(
        [plan.limits.rules[at] for at in kept], [whom.index(who) for who in counted]
    )
    return Plan(limits, whom, own=tuple([charged[at][1] for at in kept]) if plan.own else ())


@lru_cache(maxsize=4)
def callers(key_validator: str) -> Callers:
    """They remember groups: one for all who ask."""
    return Callers(key_validator)


def _user(asking: _Asking) -> UserFacts:
    known = callers(asking.engine.config.key_validator)
    facts, user = ANONYMOUS, asking.user
    if asking.request is not None:
        request = django_request(asking.request)
        facts = known.identify(request, list(asking.rules))
        if user is None and request is not asking.request:
            user = asking.request.user  # Whom REST framework has authenticated, by whatever.
    return facts if user is None else known.with_user(facts, user, asking.rules)


async def _auser(asking: _Asking) -> UserFacts:
    known = callers(asking.engine.config.key_validator)
    facts, user = ANONYMOUS, asking.user
    if asking.request is not None:
        request = django_request(asking.request)
        facts = await known.aidentify(request, list(asking.rules))
        if user is None and request is not asking.request:
            user = await sync_to_async(lambda: asking.request.user)()  # type: ignore[union-attr]
    return facts if user is None else await known.awith_user(facts, user, asking.rules)


class _InForce:
    """What is worked out once for a ruleset."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._apart: dict[str, CompiledRule] = {}
        self._conditions: dict[tuple[str, bool, bool], tuple[Condition, ...]] = {}
        self._at_cost: dict[tuple[int, int], tuple[PackedLimits, PackedLimits | Decision]] = {}

    def conditions(self, compiled: CompiledRule, facts: RequestFacts) -> Iterable[Condition]:
        """All but the path and the user, as far as anything is known of them."""
        name = compiled.rule.name
        key = (name, facts.method == "", facts.address == NOBODY.address)
        found = self._conditions.get(key)
        if found is None:
            rule = known_conditions(compiled.rule, facts)
            found = self._conditions[key] = conditions_by_name(rule)
        return found

    def variant(
        self, compiled: CompiledRule, named: Named | None, knows_user: bool
    ) -> CompiledRule:
        """The limit as it counts whom code names."""
        if named is not None and named.counts_apart(compiled.rule):
            name = compiled.rule.name
            found = self._apart.get(name)
            if found is None:
                found = self._apart[name] = counted_apart(compiled)
            compiled = found
        if compiled.particular and not knows_user:
            compiled = replace(compiled, particular=False)
        return compiled

    def at_cost(self, engine: Engine, limits: PackedLimits, cost: int) -> PackedLimits | Decision:
        """Limits under which the request costs so much; a denial where it could never pass."""
        key = (id(limits), cost)
        found = self._at_cost.get(key)
        if found is None:
            made: PackedLimits | Decision | None = too_dear(limits.rules, cost)
            if made is None:
                rules = [with_cost(rule, cost) for rule in limits.rules]
                made = PackedLimits(engine.limiter.keys, rules, limits.places)
            if len(self._at_cost) >= MOST_COSTS:
                self._at_cost.clear()
            # With the limits themselves: their id is nobody else's while they are here.
            found = self._at_cost[key] = (limits, made)
        return found[1]


_last: _InForce | None = None


def _in_force(index: Index) -> _InForce:
    global _last
    last = _last
    if last is None or last.index is not index:
        last = _last = _InForce(index)
    return last
