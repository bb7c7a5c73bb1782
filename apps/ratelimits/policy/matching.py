"""Which limits match a request.

``compile_ruleset`` turns a Ruleset into an Index once per version. ``considered`` finds the rules
that the request's path can match, ``candidates`` asks those for all that is known of every
request, and ``applies_to`` for what only the user tells, so that the user is asked for only
where a limit needs it.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from .canary import is_in
from .client_ip import Span, in_networks, parse_span
from .errors import PolicyError
from .facts import RequestFacts, UserFacts
from .path_index import PathIndex
from .paths import CompiledPath, PathTest, compile_path
from .rules import (
    Audience,
    Mode,
    Override,
    OverrideAction,
    PathKind,
    Rule,
    Ruleset,
    with_quota,
)

Condition = Callable[[RequestFacts, int], bool]
"""Of a request and the time (us)."""


def parse_networks(texts: tuple[str, ...]) -> tuple[Span, ...]:
    """Raises PolicyError naming the text that is no network."""
    networks = []
    for text in texts:
        try:
            networks.append(parse_span(text))
        except ValueError as error:
            raise PolicyError(f"{text!r} is no network: {error}") from error
    return tuple(networks)


@dataclass(frozen=True, slots=True)
class CompiledOverride:
    override: Override
    networks: tuple[Span, ...]
    """Its network, or nothing where it is about a user, a group or a key."""
    rule: Rule
    """As it is for those whom the override is about: the same object for every request."""


@dataclass(frozen=True, slots=True)
class CompiledRule:
    rule: Rule
    needs_user: bool
    needs_groups: bool
    needs_session: bool
    headers: frozenset[str]
    particular: bool
    """Whether it is about some users only (``applies_to``)."""
    counted: str
    """Equal for rules that count a request as the same identity."""
    path: CompiledPath
    conditions: tuple[Condition, ...]
    """What its path's place leaves to ask: nothing of the parts that the rule does not use."""
    overrides: tuple[CompiledOverride, ...]
    canary: Canary | None = None
    """What is asked in its stead, where it is one."""


@dataclass(frozen=True, slots=True)
class Canary:
    """A limit as it is for those in it and for those outside, made once: the same objects for
    every request."""

    rule: Rule
    enforced: CompiledRule
    shadow: CompiledRule

    def of(self, digest: str) -> CompiledRule:
        """As it is for whom the limit counts so."""
        return self.enforced if is_in(self.rule, digest) else self.shadow


@dataclass(frozen=True, slots=True)
class Index:
    version: int
    rules: tuple[CompiledRule, ...]
    paths: PathIndex
    needs_route: bool
    needs_host: bool
    by_name: Mapping[str, CompiledRule] = field(default_factory=dict)
    """Every rule, for code that asks by name."""
    off: frozenset[str] = frozenset()

    def considered(self, facts: RequestFacts) -> list[CompiledRule]:
        """The rules that have to be asked at all, in the ruleset's order."""
        rules = self.rules
        return [rules[position] for position in self.paths.find(facts.path, facts.route)]

    def candidates(self, facts: RequestFacts, now_us: int) -> list[CompiledRule]:
        """The rules that match by everything but the user, in the ruleset's order."""
        matching = []
        for compiled in self.considered(facts):
            for holds in compiled.conditions:
                if not holds(facts, now_us):
                    break
            else:
                matching.append(compiled)
        return matching


def compile_ruleset(ruleset: Ruleset) -> Index:
    """Raises PolicyError where a rule cannot be enforced."""
    rules = tuple(compile_rule(rule) for rule in ruleset.rules)
    by_path = [rule for rule in ruleset.rules if rule.path.kind is not PathKind.NAMED]
    return Index(
        version=ruleset.version,
        rules=rules,
        paths=PathIndex(compiled.path.place for compiled in rules),
        needs_route=any(rule.needs_route for rule in by_path),
        needs_host=any(rule.host for rule in by_path),
        by_name={compiled.rule.name: compiled for compiled in rules},
        off=frozenset(ruleset.off),
    )


def compile_rule(rule: Rule) -> CompiledRule:
    """Raises PolicyError where a part of the rule cannot be enforced."""
    path = compile_path(rule.path)
    compiled = CompiledRule(
        rule=rule,
        needs_user=rule.needs_user,
        needs_groups=rule.needs_groups,
        needs_session=rule.needs_session,
        headers=rule.headers,
        particular=rule.audience is not Audience.EVERYONE or bool(rule.groups),
        counted=" ".join([*rule.counted_by, rule.header, rule.view_argument]),
        path=path,
        conditions=tuple(condition for _, condition in conditions_of(rule, path.test)),
        overrides=tuple(_compile_override(override, rule) for override in rule.overrides),
    )
    if rule.mode is not Mode.CANARY:
        return compiled
    forms = Canary(rule, _in_mode(compiled, Mode.ENFORCE), _in_mode(compiled, Mode.SHADOW))
    return replace(compiled, canary=forms)


def _in_mode(compiled: CompiledRule, mode: Mode) -> CompiledRule:
    rule = replace(compiled.rule, mode=mode)
    overrides = tuple(_compile_override(override, rule) for override in rule.overrides)
    return replace(compiled, rule=rule, overrides=overrides)


def conditions_by_name(rule: Rule) -> tuple[Condition, ...]:
    """What is left to ask where code names the limit: everything but the path and the user."""
    return tuple(condition for _, condition in conditions_of(rule, None))


def conditions_of(rule: Rule, path_test: PathTest | None) -> Iterator[tuple[str, Condition]]:
    """What a rule asks of a request, each by its name; the cheap ones first."""
    methods, begin_us, end_us = rule.methods, rule.active_from_us, rule.active_until_us
    if methods:
        yield "method", lambda facts, now_us: facts.method in methods
    if begin_us is not None:
        yield "active_from", lambda facts, now_us: now_us >= begin_us
    if end_us is not None:
        yield "active_until", lambda facts, now_us: now_us < end_us
    if rule.host:
        yield "host", _host_condition(rule.host)
    if path_test is not None:
        yield "path", lambda facts, now_us: path_test(facts.path)
    if networks := parse_networks(rule.networks):
        yield "networks", lambda facts, now_us: in_networks(facts.address, networks)
    if excluded := parse_networks(rule.networks_excluded):
        yield "networks_excluded", lambda facts, now_us: not in_networks(facts.address, excluded)


def _host_condition(pattern: str) -> Condition:
    """Names are compared as DNS does: without regard to case or to the root's final dot."""
    matches = re.compile(fnmatch.translate(_host_name(pattern))).match
    return lambda facts, now_us: matches(_host_name(facts.host)) is not None


def _host_name(host: str) -> str:
    return host.lower().removesuffix(".")


def _compile_override(override: Override, rule: Rule) -> CompiledOverride:
    networks = (override.value,) if override.target == "network" else ()
    if override.action is OverrideAction.QUOTA:
        # A block that is taken ahead is no larger than the quota that it is taken of.
        lease = min(rule.lease, override.quota)
        rule = replace(rule, rate=with_quota(rule.rate, override.quota), lease=lease)
    return CompiledOverride(override, parse_networks(networks), rule)


def applies_to(rule: Rule, user: UserFacts) -> bool:
    """Whether the user is one of those whom the limit is about."""
    match rule.audience:
        case Audience.ANONYMOUS if user.pk is not None:
            return False
        case Audience.SIGNED_IN if user.pk is None:
            return False
        case Audience.STAFF if not user.is_staff:
            return False
    return not rule.groups or not rule.groups.isdisjoint(user.groups)
