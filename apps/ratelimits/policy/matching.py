"""Which limits match a request.

``compile_ruleset`` turns a Ruleset into an Index once per version; ``candidates`` uses
what is known of every request, ``applies_to`` what only the user tells, so that the user
is asked for only where a limit needs it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network

import re2

from .client_ip import Network, in_networks
from .errors import PolicyError
from .facts import RequestFacts, UserFacts
from .rules import Audience, PathKind, PathPattern, Rule, Ruleset

MAX_PATTERN_CHARS = 500
_RE2_MAX_MEM_BYTES = 1 << 20

PathTest = Callable[[RequestFacts], bool]


def compile_path(pattern: PathPattern) -> PathTest:
    """A test of the path. Raises PolicyError where the pattern cannot be used."""
    value = pattern.value
    if len(value) > MAX_PATTERN_CHARS:
        raise PolicyError(f"a path pattern of {len(value)} characters: at most {MAX_PATTERN_CHARS}")
    if _as_utf8(value) is not value:
        raise PolicyError(f"the path pattern {value!r} is no valid Unicode: remove the surrogate")
    match pattern.kind:
        case PathKind.ANY:
            return lambda facts: True
        case PathKind.VIEW:
            if not value:
                raise PolicyError("name the view, for example 'blog:detail'")
            return lambda facts: facts.route == value
        case PathKind.REGEX:
            return _compile_regex(value)
    if not value.startswith("/"):
        raise PolicyError(f"the path {value!r} must begin with '/'")
    match pattern.kind:
        case PathKind.EXACT:
            return lambda facts: facts.path == value
        case PathKind.PREFIX:
            return lambda facts: facts.path.startswith(value)
        case PathKind.GLOB:
            return _compile_regex(_glob_to_regex(value))


def _glob_to_regex(glob: str) -> str:
    """``*`` is one segment, ``**`` any number of them, ``?`` one character of a segment."""
    return "".join(
        {"**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token, re2.escape(token))
        for token in _glob_tokens(glob)
    )


def _glob_tokens(glob: str) -> list[str]:
    tokens: list[str] = []
    for char in glob:
        if char == "*" and tokens and tokens[-1] == "*":
            tokens[-1] = "**"
        else:
            tokens.append(char)
    return tokens


def _compile_regex(source: str) -> PathTest:
    options = re2.Options()
    options.max_mem = _RE2_MAX_MEM_BYTES
    options.log_errors = False
    options.dot_nl = True
    try:
        compiled = re2.compile(source, options)
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode() if isinstance(reason, bytes) else str(reason)
        raise PolicyError(f"RE2 does not accept {source!r}: {text}") from error
    return lambda facts: compiled.fullmatch(_as_utf8(facts.path)) is not None


def _as_utf8(path: str) -> str:
    """The path as RE2 can read it: a lone surrogate becomes U+FFFD."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in path)
    return path


def _host_matches(host: str, pattern: str) -> bool:
    """Names are compared as DNS does: without regard to case or to the root's final dot."""
    return fnmatch.fnmatchcase(host.lower().removesuffix("."), pattern.lower().removesuffix("."))


def parse_networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Raises PolicyError naming the text that is no network."""
    networks = []
    for text in texts:
        try:
            networks.append(ip_network(text))
        except ValueError as error:
            raise PolicyError(f"{text!r} is no network: {error}") from error
    return tuple(networks)


@dataclass(frozen=True, slots=True)
class CompiledRule:
    rule: Rule
    needs_user: bool
    needs_groups: bool
    needs_session: bool
    headers: frozenset[str]
    matches_path: PathTest
    networks: tuple[Network, ...]
    excluded: tuple[Network, ...]
    overrides: tuple[tuple[Network, ...], ...]
    """Per override of the rule: its network, or nothing for one of a user or group."""

    def matches(self, facts: RequestFacts, now_us: int) -> bool:
        """Everything but the user."""
        rule = self.rule
        return (
            (not rule.methods or facts.method in rule.methods)
            and self.matches_path(facts)
            and (not rule.host or _host_matches(facts.host, rule.host))
            and (rule.active_from_us is None or now_us >= rule.active_from_us)
            and (rule.active_until_us is None or now_us < rule.active_until_us)
            and (not self.networks or in_networks(facts.address, self.networks))
            and not in_networks(facts.address, self.excluded)
        )


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


@dataclass(frozen=True, slots=True)
class Index:
    version: int
    rules: tuple[CompiledRule, ...]
    needs_route: bool

    def candidates(self, facts: RequestFacts, now_us: int) -> list[CompiledRule]:
        return [compiled for compiled in self.rules if compiled.matches(facts, now_us)]


def compile_rule(rule: Rule) -> CompiledRule:
    """Raises PolicyError where a part of the rule cannot be enforced."""
    return CompiledRule(
        rule=rule,
        needs_user=rule.needs_user,
        needs_groups=rule.needs_groups,
        needs_session=rule.needs_session,
        headers=rule.headers,
        matches_path=compile_path(rule.path),
        networks=parse_networks(rule.networks),
        excluded=parse_networks(rule.networks_excluded),
        overrides=tuple(
            parse_networks((override.value,)) if override.target == "network" else ()
            for override in rule.overrides
        ),
    )


def compile_ruleset(ruleset: Ruleset) -> Index:
    rules = tuple(compile_rule(rule) for rule in ruleset.rules)
    return Index(
        version=ruleset.version,
        rules=rules,
        needs_route=any(rule.needs_route for rule in ruleset.rules),
    )
