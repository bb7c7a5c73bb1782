"""Why a limit is about a request or not, and whom it counts: what the matching decides, told.

The conditions are those that the matching asks (``conditions_of``, ``applies_to``, the path index,
``override_for``): this module only says which of them fails. Of a request that is known in part,
what cannot be told is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from .algorithms import Standing
from .client_ip import Derivation
from .facts import RequestFacts, UserFacts
from .identity import identity_parts
from .matching import CompiledRule, applies_to, conditions_of
from .overriding import override_for
from .path_index import PathIndex
from .rules import (
    IN_FORCE,
    Algorithm,
    Audience,
    CountedBy,
    Mode,
    Override,
    OverrideAction,
    PathKind,
    Rate,
    Rule,
)

MOST_NAMED = 3


class Part(StrEnum):
    """Of a request, as far as it can be unknown."""

    ADDRESS = "address"
    USER = "user"
    HOST = "host"
    PATH = "path"
    KEYS = "keys"
    SESSION = "session"
    ARGUMENTS = "arguments"


class Outcome(StrEnum):
    COUNTS = "counts"
    """It matches, and counts the request."""
    MISSES = "misses"
    UNLIMITED = "unlimited"
    BLOCKED = "blocked"
    """It matches, but an override says that this client is not counted, or denied always."""
    UNTOLD = "untold"
    """Whether it matches cannot be told of what is known."""


@dataclass(frozen=True, slots=True)
class Considered:
    """What one limit makes of a request.

    ``rule`` is as it is for this client, an override's quota applied. ``misses``: why it does not
    match, a sentence each. ``untold``: what would have to be known. ``parts``: whom it counts,
    kinds and values, where it ``COUNTS``; ``instead``: what it would count by but had to leave.
    """

    rule: Rule
    outcome: Outcome
    misses: tuple[str, ...] = ()
    untold: tuple[Part, ...] = ()
    override: Override | None = None
    parts: tuple[str, ...] = ()
    instead: tuple[CountedBy, ...] = ()


_NEEDS = {
    "host": Part.HOST,
    "path": Part.PATH,
    "networks": Part.ADDRESS,
    "networks_excluded": Part.ADDRESS,
}
_PART_OF = {
    CountedBy.ADDRESS: Part.ADDRESS,
    CountedBy.USER: Part.USER,
    CountedBy.SESSION: Part.SESSION,
    CountedBy.HEADER: Part.KEYS,
    CountedBy.VIEW_ARGUMENT: Part.ARGUMENTS,
}
_OVERRIDE_NEEDS = {
    "user": Part.USER,
    "group": Part.USER,
    "network": Part.ADDRESS,
    "key": Part.KEYS,
}


def consider(
    compiled: CompiledRule,
    facts: RequestFacts,
    user: UserFacts,
    now_us: int,
    *,
    unknown: frozenset[Part] = frozenset(),
    groups: Mapping[str, str] | None = None,
) -> Considered:
    """``groups``: names by id, where they are to be named. Facts that are ``unknown`` may be
    anything: nothing is concluded from them."""
    rule = compiled.rule
    misses, untold = _of_request(compiled, facts, now_us, unknown)
    _of_user(rule, user, unknown, groups or {}, misses, untold)
    if misses:
        return Considered(rule, Outcome.MISSES, tuple(misses))
    if untold:
        return Considered(rule, Outcome.UNTOLD, untold=tuple(dict.fromkeys(untold)))
    found = override_for(compiled, facts, user, now_us)
    override = found.override if found else None
    if override and override.action is OverrideAction.UNLIMITED:
        return Considered(rule, Outcome.UNLIMITED, override=override)
    if override and override.action is OverrideAction.BLOCKED:
        if rule.mode is Mode.ENFORCE:
            return Considered(rule, Outcome.BLOCKED, override=override)
        said = "An override blocks this client, but a limit that blocks nobody leaves it alone."
        return Considered(rule, Outcome.MISSES, (said,), override=override)
    missing = [
        _OVERRIDE_NEEDS[one.override.target]
        for one in compiled.overrides
        if _OVERRIDE_NEEDS[one.override.target] in unknown and _is_due(one.override, now_us)
    ]
    missing += [_PART_OF[by] for by in rule.counted_by if _PART_OF.get(by) in unknown]
    parts = identity_parts(rule, facts, user)
    kinds = {kind.partition(" ")[0] for kind in parts[::2]}
    names = {CountedBy.VIEW_ARGUMENT: "argument"}
    instead = tuple(by for by in rule.counted_by if names.get(by, by.value) not in kinds)
    return Considered(
        found.rule if found else rule,
        Outcome.COUNTS,
        untold=tuple(dict.fromkeys(missing)),
        override=override,
        parts=parts,
        instead=instead,
    )


def as_counted(
    compiled: CompiledRule,
    digest_of: Callable[[tuple[str, ...]], str],
    facts: RequestFacts,
    user: UserFacts,
    unknown: frozenset[Part] = frozenset(),
    noted: str = "",
) -> CompiledRule:
    """A canary as it is for whom it counts, by itself where that cannot be told. ``noted``: the
    digest that it counted, where that is known."""
    if compiled.canary is None:
        return compiled
    if not noted:
        if any(_PART_OF.get(by) in unknown for by in compiled.rule.counted_by):
            return compiled
        noted = digest_of(identity_parts(compiled.rule, facts, user))
    return compiled.canary.of(noted)


def canary_text(compiled: CompiledRule, mode: Mode) -> str:
    """Whether the client is in it, by the mode that it has for them; empty of others."""
    if compiled.canary is None:
        return ""
    of = f"A canary of {compiled.rule.canary_permille / 10:g} % of clients"
    match mode:
        case Mode.ENFORCE:
            return f"{of}: this one is in it."
        case Mode.SHADOW:
            return f"{of}: this one is outside, for whom it counts and blocks nobody."
        case _:
            return f"{of}: whether this one is in it cannot be told."


def _is_due(override: Override, now_us: int) -> bool:
    return override.until_us is None or override.until_us > now_us


def _of_request(
    compiled: CompiledRule, facts: RequestFacts, now_us: int, unknown: frozenset[Part]
) -> tuple[list[str], list[Part]]:
    rule = compiled.rule
    misses: list[str] = []
    untold: list[Part] = []
    if rule.mode not in IN_FORCE:
        misses.append("It is a draft." if rule.mode is Mode.DRAFT else "It is switched off.")
    matches = _path_matches(compiled, facts, Part.PATH in unknown)
    if matches is None:
        untold.append(Part.PATH)
    elif not matches:
        misses.append(_about_path(rule, facts))
    for name, holds in conditions_of(rule, None):
        if (needed := _NEEDS.get(name)) in unknown:
            untold.append(needed)
        elif not holds(facts, now_us):
            misses.append(_about(name, rule, facts))
    return misses, untold


def _path_matches(compiled: CompiledRule, facts: RequestFacts, in_part: bool) -> bool | None:
    kind, value = compiled.rule.path.kind, compiled.rule.path.value
    if in_part and kind not in (PathKind.ANY, PathKind.VIEW):
        return _beginning_matches(kind, value, facts.path)
    if not PathIndex((compiled.path.place,)).find(facts.path, facts.route):
        return False
    return compiled.path.test is None or compiled.path.test(facts.path)


def _beginning_matches(kind: PathKind, value: str, path: str) -> bool | None:
    """Of a path that is known up to the first thing that stands for another."""
    if kind is PathKind.REGEX:
        return None
    known = re.split(r"[<~(\\^$*+?|]", path)[0]
    wanted = re.split(r"[*?]", value)[0] if kind is PathKind.GLOB else value
    if kind is PathKind.PREFIX and known.startswith(wanted):
        return True
    return None if wanted.startswith(known) or known.startswith(wanted) else False


def _about_path(rule: Rule, facts: RequestFacts) -> str:
    if rule.path.kind is PathKind.NAMED:
        return "Only code asks for it, by its name."
    if rule.path.kind is PathKind.VIEW:
        return f"It is about the view {rule.path.value}; this is {facts.route or 'no known view'}."
    how = {
        PathKind.EXACT: "exactly",
        PathKind.PREFIX: "paths that begin with",
        PathKind.GLOB: "paths such as",
        PathKind.REGEX: "paths that match",
    }
    return (
        f"It is about {how.get(rule.path.kind, 'paths')} {rule.path.value}; this is {facts.path}."
    )


def _about(name: str, rule: Rule, facts: RequestFacts) -> str:
    match name:
        case "method":
            return f"It is about {_any_of(sorted(rule.methods))}; this is {facts.method}."
        case "active_from":
            return f"It is not active yet: it begins at {_moment(rule.active_from_us)}."
        case "active_until":
            return f"It is no longer active: it ended at {_moment(rule.active_until_us)}."
        case "host":
            return f"It is about the host {rule.host}; this is {facts.host or 'unknown'}."
        case "networks":
            inside = _any_of(rule.networks)
            return f"It is about clients from {inside}; this one is {facts.address}."
        case _:
            outside = _any_of(rule.networks_excluded)
            return f"It leaves out clients from {outside}; this one is {facts.address}."


def _of_user(
    rule: Rule,
    user: UserFacts,
    unknown: frozenset[Part],
    groups: Mapping[str, str],
    misses: list[str],
    untold: list[Part],
) -> None:
    if rule.audience is Audience.EVERYONE and not rule.groups:
        return
    if Part.USER in unknown:
        untold.append(Part.USER)
        return
    if applies_to(rule, user):
        return
    if not applies_to(replace(rule, groups=frozenset()), user):
        whom = {
            Audience.ANONYMOUS: "anonymous visitors; this one is signed in",
            Audience.SIGNED_IN: "signed-in users; this one is anonymous",
            Audience.STAFF: "staff; this one is not",
        }
        misses.append(f"It is about {whom[rule.audience]}.")
    if rule.groups and rule.groups.isdisjoint(user.groups):
        named = _any_of(sorted(groups.get(group, f"group {group}") for group in rule.groups))
        misses.append(f"It is about users in {named}; this one is in none of them.")


def _any_of(names: list[str] | tuple[str, ...]) -> str:
    more = len(names) - MOST_NAMED
    return " or ".join([*names[:MOST_NAMED], *([f"{more:,} more"] if more > 0 else [])])


def _moment(at_us: int | None) -> str:
    at = datetime.fromtimestamp((at_us or 0) / 1_000_000, UTC)
    return at.strftime("%d %b %Y, %H:%M:%S UTC")


def counted_text(parts: tuple[str, ...]) -> str:
    """``address 203.0.113.9 and user 5``; of everyone, ``everyone together``."""
    named = [_named(kind, value) for kind, value in zip(parts[::2], parts[1::2], strict=True)]
    return " and ".join(named)


def _named(kind: str, value: str) -> str:
    kind, _, name = kind.partition(" ")
    match kind:
        case "everyone":
            return "everyone together"
        case "header":
            return f"the key of {value} in {name}"
        case "argument":
            return f"{name} {value}"
        case "session":
            return "the session"  # Who reads it could use it.
        case _:
            return f"{kind} {value}"


def override_text(override: Override, rule: Rule) -> str:
    """``An override for user 5 gives 500, until ...``."""
    target = override.value
    whom = f"{override.target} {target}"
    if override.target == "key":
        header, _, whose = target.partition(":")
        whom = f"the key of {whose} in {header}"
    what = {
        OverrideAction.UNLIMITED: "lifts the limit",
        OverrideAction.BLOCKED: "blocks",
        OverrideAction.QUOTA: f"gives {override.quota:,}",
    }[override.action]
    end = "" if override.until_us is None else f", until {_moment(override.until_us)}"
    return f"An override for {whom} {what}{end}."


def steps(found: Derivation, has_proxies: bool) -> tuple[str, ...]:
    """The derivation of an address, a sentence a step."""
    said = []
    peer, *hops = found.hops
    if peer.address is None:
        said.append("The connection has no address (a Unix socket): all such count together.")
    elif not peer.trusted:
        why = "no trusted proxy"
        if not has_proxies:
            why = "and no proxy is trusted (IOTA_TRUSTED_PROXIES)"
        said.append(f"The connection comes from {peer.address}, {why}: that is the client.")
    elif not hops:
        said.append(
            f"The connection comes from {peer.address}, a trusted proxy, but there is no "
            "X-Forwarded-For: that is the client."
        )
    else:
        said.append(
            f"The connection comes from {peer.address}, a trusted proxy: X-Forwarded-For is read, "
            "from the right."
        )
    last = len(hops) - 1
    for place, hop in enumerate(hops):
        if hop.address is None:
            said.append(f"{hop.text or 'An empty entry'!s}: no address. The one before it counts.")
        elif hop.trusted and place < last:
            said.append(f"{hop.address}: a trusted proxy. Further left.")
        elif hop.trusted:
            said.append(f"{hop.address}: a trusted proxy, and nothing is left of it: the client.")
        else:
            said.append(f"{hop.address}: no trusted proxy, so it is the client.")
    if found.unread:
        said.append(
            f"{found.unread:,} entr{'y' if found.unread == 1 else 'ies'} left of it: the client's "
            "own word, not read."
        )
    if "/" in found.address:
        said.append(f"An IPv6 client counts with its network: {found.address}.")
    return tuple(said)


def capacity(rate: Rate) -> int:
    """Units that can be free at most."""
    return rate.burst if rate.algorithm is Algorithm.TOKEN_BUCKET else rate.quota


def used(rate: Rate, standing: Standing) -> int:
    """Of ``capacity``, units."""
    return max(0, capacity(rate) - standing.remaining)
