"""Limits that code asks for by name: whom it names, and what it says a request costs.

Code names somebody by a text, who is counted apart from all requests, or by parts: ``user``,
``address``, ``session``, ``key`` and ``argument``. Of parts a limit takes those that it counts by,
so that the count is the one of such requests. Where one of them is missing and no address stands
in, all parts together are one identity. Whatever code names, a limit that counts everyone together
does so still.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from .algorithms import Standing
from .client_ip import UNKNOWN
from .decision import Decision, Verdict, decide_all
from .facts import RequestFacts, UserFacts
from .matching import Canary, CompiledRule
from .rules import Algorithm, CountedBy, Mode, Rate, Rule

NOBODY = RequestFacts(method="", path="", address=UNKNOWN)
"""Where code asks without a request."""
NEVER_RETRY_US = 3_600_000_000
"""What a client hears whose request costs more than can ever be free."""
BY_CODE = "named by code"
"""No argument of a URL pattern can have this name."""

PARTS = {
    CountedBy.USER: "user",
    CountedBy.ADDRESS: "address",
    CountedBy.SESSION: "session",
    CountedBy.HEADER: "key",
    CountedBy.VIEW_ARGUMENT: "argument",
}


@dataclass(frozen=True, slots=True)
class Named:
    """Whom code names: a text, or parts by their names."""

    text: str
    parts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def by_parts(cls, parts: Mapping[str, str]) -> Named:
        """Their order does not matter. Raises ValueError where nobody is named."""
        if not parts:
            raise ValueError("an identity without parts: name a user, an address, or give a text")
        return cls(json.dumps(dict(parts), sort_keys=True), parts)

    def counts_apart(self, rule: Rule) -> bool:
        """Whether the limit cannot count it as it counts requests."""
        if CountedBy.EVERYONE in rule.counted_by:
            return False
        missing = {PARTS[part] for part in rule.counted_by} - self.parts.keys()
        return bool(missing) and "address" not in self.parts

    def facts(self, facts: RequestFacts, rules: Sequence[CompiledRule]) -> RequestFacts:
        """``facts`` with what is named in place of what the request says. An address is as
        ``client_address`` gives it."""
        arguments = [(BY_CODE, self.text)]
        if (argument := self.parts.get("argument")) is not None:
            names = {c.rule.view_argument for c in rules if c.rule.view_argument}
            arguments += [(name, argument) for name in names]
        address = self.parts.get("address", facts.address)
        return replace(facts, address=address, arguments=tuple(arguments))

    def user(self, user: UserFacts, rules: Sequence[CompiledRule]) -> UserFacts:
        """``user`` with the session and the key that are named; the user is the caller's to ask."""
        if (session := self.parts.get("session")) is not None:
            user = replace(user, session=session)
        if (key := self.parts.get("key")) is not None:
            headers = {c.rule.header for c in rules if c.rule.header}
            user = replace(user, keys=tuple((header, key) for header in headers))
        return user


def counted_apart(compiled: CompiledRule) -> CompiledRule:
    """The limit, counting by the text that code gives."""
    rule = _counted_apart(compiled.rule)
    overrides = tuple(replace(o, rule=_counted_apart(o.rule)) for o in compiled.overrides)
    canary = compiled.canary
    if canary is not None:
        enforced, shadow = counted_apart(canary.enforced), counted_apart(canary.shadow)
        canary = Canary(rule, enforced, shadow)
    return replace(compiled, rule=rule, counted=BY_CODE, overrides=overrides, canary=canary)


def _counted_apart(rule: Rule) -> Rule:
    return replace(rule, counted_by=(CountedBy.VIEW_ARGUMENT,), view_argument=BY_CODE)


def known_conditions(rule: Rule, facts: RequestFacts) -> Rule:
    """The limit without what it asks of a request, where there is none."""
    if not facts.method:
        rule = replace(rule, methods=frozenset(), host="")
    if facts.address == UNKNOWN:
        rule = replace(rule, networks=(), networks_excluded=())
    return rule


def most_at_once(rate: Rate) -> int:
    """Units that can ever be free."""
    return rate.burst if rate.algorithm is Algorithm.TOKEN_BUCKET else rate.quota


def with_cost(rule: Rule, cost: int) -> Rule:
    """The limit for a request that costs so much. A slot is always one, and what a shadow limit
    could never let pass costs it all that there is."""
    rate = rule.rate
    if rate.algorithm is Algorithm.CONCURRENCY or rate.cost == cost:
        return rule
    # A block that was taken ahead is of requests that cost what staff wrote: this one is counted
    # by itself.
    return replace(rule, rate=replace(rate, cost=min(cost, most_at_once(rate))), lease=0)


def too_dear(rules: Sequence[Rule], cost: int) -> Decision | None:
    """A denial by the enforcing limits under which such a request could never pass."""
    never = [
        Verdict(_told(rule, cost), False, Standing(0, NEVER_RETRY_US, 0, 0))
        for rule in rules
        if rule.mode is Mode.ENFORCE
        and rule.rate.algorithm is not Algorithm.CONCURRENCY
        and cost > most_at_once(rule.rate)
    ]
    return decide_all(never) if never else None


def _told(rule: Rule, cost: int) -> Rule:
    most = most_at_once(rule.rate)
    said = f"This request costs {cost:,} units, and never more than {most:,} are free at once."
    return replace(rule, message=f"{rule.message} {said}".strip())
