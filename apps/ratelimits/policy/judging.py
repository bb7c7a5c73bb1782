"""Whether a limit would be about a recorded request, and whom it would count.

Asked of the same code as a request is. What the record does not hold (an address within its
network, a user whom nobody looked up) may be what the limit turns on: then it cannot be told, and
the reason is named, in the order in which a limit is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from typing import Any, NamedTuple

from .client_ip import UNKNOWN, parse_span
from .facts import RequestFacts, UserFacts
from .identity import identity_parts
from .masking import PathJudge, is_masked, shape_of
from .matching import CompiledRule, Index, applies_to, compile_rule, compile_ruleset, parse_networks
from .overriding import override_for
from .rules import (
    Algorithm,
    Audience,
    CountedBy,
    Counts,
    Mode,
    OverrideAction,
    Rate,
    Rule,
    Ruleset,
)
from .traffic import ALL_KNOWN, What, Who

_WILD = re.compile(r"[*?\[]")


class Untold(StrEnum):
    """What the record does not hold."""

    PATH = "path"
    VIEW = "view"
    HOST = "host"
    NETWORK = "network"
    USER = "user"
    GROUPS = "groups"
    SESSION = "session"
    KEY = "key"
    DURATION = "duration"


class Held(NamedTuple):
    """To what rate somebody is held: None, without a bound. ``blocked``: an override denies all."""

    rate: Rate | None
    blocked: bool = False


class Counted(NamedTuple):
    """Whom a request counts, and to what rate they are held."""

    parts: tuple[str, ...]
    rate: Rate | None
    blocked: bool = False


class Judge:
    """Of one limit, as if it were enforced and active.

    ``masked`` and ``masked_host`` make of a path and a host what the record has of them;
    ``keys_known``: no function says whose a key is, so that none is anybody's.

    Digests stand for names: those in the rule's overrides have to be digests too.
    Raises PolicyError where the rule cannot be enforced.
    """

    def __init__(
        self,
        rule: Rule,
        masked: Callable[[str], str],
        masked_host: Callable[[str], str] = lambda host: host,
        *,
        now_us: int,
        keys_known: bool = False,
    ) -> None:
        self.rule = replace(rule, mode=Mode.ENFORCE, active_from_us=None, active_until_us=None)
        self._compiled: CompiledRule = compile_rule(self.rule)
        self._method = _alone(self.rule, methods=self.rule.methods)
        self._host = _alone(self.rule, host=self.rule.host)
        self._network = _alone(
            self.rule,
            networks=self.rule.networks,
            networks_excluded=self.rule.networks_excluded,
        )
        self._audience = replace(self.rule, groups=frozenset())
        self._masked_host = None if _WILD.search(rule.host) else masked_host(rule.host)
        self._path = PathJudge(self.rule.path, masked)
        self._spans = parse_networks((*self.rule.networks, *self.rule.networks_excluded))
        overrides = self.rule.overrides
        self._targets = {override.target for override in overrides}
        self._exceptions = parse_networks(
            tuple(override.value for override in overrides if override.target == "network")
        )
        self._now_us = now_us
        self._told: dict[tuple[str, str, str, str | None], Untold | bool] = {}
        self._keys_known = keys_known

    def of(self, what: What, who: Who) -> Counted | Untold | None:
        """None: the limit is not about it."""
        told = self.of_what(what)
        if told is not True:
            return told or None
        held = self.of_who(who)
        return self.counted(what, who, held) if isinstance(held, Held) else held

    def of_what(self, what: What) -> Untold | bool:
        """Whether the limit is about what was asked."""
        path = shape_of(what.path) if self._path.by_shape else what.path
        key = what.method, path, what.host, what.route
        told = self._told.get(key)
        if told is None:
            told = self._told[key] = self._of_what(what)
        return told

    def _of_what(self, what: What) -> Untold | bool:
        facts = RequestFacts(what.method, what.path, UNKNOWN, what.host, what.route or "")
        if not self._method.candidates(facts, 0):
            return False
        holds = self._path.holds(what.path, what.route)
        if holds is None:
            return Untold.VIEW if what.route is None else Untold.PATH
        if not holds:
            return False
        if self.rule.host:
            if is_masked(what.host):
                if self._masked_host is None:
                    return Untold.HOST
                return what.host == self._masked_host and self._tells_view(what)
            if not self._host.candidates(facts, 0):
                return False
        return self._tells_view(what)

    def _tells_view(self, what: What) -> Untold | bool:
        if CountedBy.VIEW_ARGUMENT in self.rule.counted_by and what.route is None:
            return Untold.VIEW
        return True

    def of_who(self, who: Who) -> Held | Untold | None:
        """What the limit grants to who asked; None: it is not about them."""
        facts = RequestFacts("", "", who.network)
        if _is_narrower(self._spans, who.network):
            return Untold.NETWORK
        if not self._network.candidates(facts, 0):
            return None
        user = _user(who)
        if untold := self._untold(who):
            return untold
        if self._compiled.particular and not applies_to(self.rule, user):
            return None
        rate: Rate | None = self.rule.rate
        found = override_for(self._compiled, facts, user, self._now_us)
        if found is not None:
            match found.override.action:
                case OverrideAction.UNLIMITED:
                    rate = None
                case OverrideAction.BLOCKED:
                    return Held(rate, blocked=True)
                case OverrideAction.QUOTA:
                    rate = found.rule.rate
        return self._uncounted(who) or Held(rate)

    def counted(self, what: What, who: Who, held: Held) -> Counted:
        facts = RequestFacts("", "", who.address, arguments=what.arguments)
        return Counted(identity_parts(self.rule, facts, _user(who)), *held)

    def groups_as(self, other: Judge) -> bool:
        """Whether both are about the same requests and count the same people, each to its own rate:
        so of an edit of the quota, where no override has one of its own."""
        if any(one.action is OverrideAction.QUOTA for one in self.rule.overrides):
            return False
        own, others = (_but_for_rate(judge.rule) for judge in (self, other))
        return own == others and self._keys_known == other._keys_known

    @property
    def counts_by_who(self) -> bool:
        """Whether whom it counts does not depend on what was asked."""
        return CountedBy.VIEW_ARGUMENT not in self.rule.counted_by

    def _untold(self, who: Who) -> Untold | None:
        """Where the limit, or an exception from it, turns on what is not known of them."""
        asks_user = self._compiled.particular or bool(self._targets & {"user", "group"})
        if asks_user and who.user is None:
            return Untold.USER
        # Whom the audience leaves out is out, whatever their groups.
        if self.rule.audience is not Audience.EVERYONE and not applies_to(
            self._audience, _user(who)
        ):
            return None
        if self._compiled.needs_groups and who.user and who.groups is None:
            return Untold.GROUPS
        if "network" in self._targets and _is_narrower(self._exceptions, who.network):
            return Untold.NETWORK
        for override in self.rule.overrides:
            if override.target == "key" and not self._knows(who, override.value.partition(":")[0]):
                return Untold.KEY
        return None

    def _uncounted(self, who: Who) -> Untold | None:
        counted_by = self.rule.counted_by
        if CountedBy.USER in counted_by and who.user is None:
            return Untold.USER
        if CountedBy.SESSION in counted_by and who.session is None:
            return Untold.SESSION
        if CountedBy.HEADER in counted_by and not self._knows(who, self.rule.header):
            return Untold.KEY
        return None

    def _knows(self, who: Who, header: str) -> bool:
        return self._keys_known or header in who.headers or ALL_KNOWN in who.headers


def _user(who: Who) -> UserFacts:
    groups = frozenset(who.groups or ())
    return UserFacts(who.user or None, who.is_staff, groups, who.session or "", who.keys)


def _but_for_rate(rule: Rule) -> Rule:
    plain = Rate(Algorithm.TOKEN_BUCKET, 1, 1_000_000, 1)
    alike = replace(rule, counts=Counts.EVERY, statuses=(), signal="")
    return replace(alike, rate=plain, epoch=0, lease=0, message="")


def _alone(rule: Rule, **part: Any) -> Index:
    """Of a rule with this part and no other."""
    only = Rule(id=0, name=rule.name, rate=rule.rate, **part)
    return compile_ruleset(Ruleset(0, (only,)))


def _is_narrower(spans: Any, network: str) -> bool:
    """Whether one of them holds a part of the network and not all of it."""
    if not spans or network == UNKNOWN:
        return False
    version, first, last = parse_span(network)
    return any(
        span.version == version
        and span.first <= last
        and first <= span.last
        and not (span.first <= first and last <= span.last)
        for span in spans
    )
