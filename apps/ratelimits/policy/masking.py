"""Paths without what may name somebody, and what a limit's pattern says of such a path.

``/users/{Jx3k9Qe2}/posts``: of the value that a URL's argument had only a digest is kept;
``{*Jx3k9Qe2}`` where the value holds a ``/``. A pattern matches such a path for certain, or
certainly not, or that depends on the value: then it cannot be told, and None says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from .facts import RequestFacts
from .matching import compile_ruleset
from .paths import Segments, compile_path
from .rules import Algorithm, PathKind, PathPattern, Rate, Rule, Ruleset

MAX_LITERAL_CHARS = 20
"""Of a path that no view answers so much is kept, where it is its first segment."""
MAX_STATES = 2_000
"""Of a pattern that takes more to judge, it cannot be told."""

Digest = Callable[[str], str]

_NOT_PLAIN = re.compile(r"[\^$?+*()\[\]|{}\\]")
_ARGUMENT = re.compile(r"<(?:([^<>:]+):)?[^<>:]+>")
_HARMLESS = re.compile(r"/([A-Za-z0-9._-]*)(?:/|\Z)")
_MASK = re.compile(r"\{(\*?)[^{}]*\}")
_OF_A_SEGMENT = ("str", "int", "slug", "uuid", None)


def is_masked(text: str) -> bool:
    return "{" in text


def shape_of(path: str) -> str:
    """What is alike in paths that differ by their values alone."""
    return _MASK.sub(r"{\1}", path) if "{" in path else path


def mask(value: str, digest: Digest) -> str:
    return "{" + ("*" if "/" in value else "") + digest(value) + "}"


def masked_path(path: str, route: str | None, digest: Digest) -> str:
    """The path with each argument of its route (``users/<int:pk>/posts``) as a digest. ``route``
    None: no view answers it, or which one is not known."""
    if route is not None:
        if not _NOT_PLAIN.search(route) and (found := _pattern(route).fullmatch(path[1:])):
            return "/" + "".join(
                part if place % 2 == 0 else mask(found[place // 2 + 1], digest)
                for place, part in enumerate(_parts(route))
            )
        literal = "/" + re.split(r"[\^$?+*()\[\]|{}\\<]", route.removeprefix("^"))[0]
        if path.startswith(literal):
            rest = path[len(literal) :]
            return literal + (mask(rest, digest) if rest else "")
    found = _HARMLESS.match(path)
    if found is None or len(found[1]) > MAX_LITERAL_CHARS:
        return "/" + mask(path[1:], digest)
    rest = path[found.end() :]
    return found[0] + (mask(rest, digest) if rest else "")


@lru_cache(maxsize=1_000)
def _parts(route: str) -> tuple[str, ...]:
    """Literal, argument, literal, ... of a route."""
    parts, at = [], 0
    for found in _ARGUMENT.finditer(route):
        parts += [route[at : found.start()], found[0]]
        at = found.end()
    return (*parts, route[at:])


@lru_cache(maxsize=1_000)
def _pattern(route: str) -> re.Pattern[str]:
    text = ""
    for place, part in enumerate(_parts(route)):
        if place % 2 == 0:
            text += re.escape(part)
        else:
            found = _ARGUMENT.fullmatch(part)
            one = found is not None and found[1] in _OF_A_SEGMENT
            text += "([^/]+)" if one else "(.+)"
    return re.compile(text, re.DOTALL)


class PathJudge:
    """What one pattern says of paths. ``masked`` masks a path as those that are asked about are,
    so that a limit on exactly one path can be judged. Raises PolicyError as ``compile_path`` does.
    """

    def __init__(self, pattern: PathPattern, masked: Callable[[str], str]) -> None:
        self._pattern = pattern
        self._exact = masked(pattern.value) if pattern.kind is PathKind.EXACT else ""
        rate = Rate(Algorithm.FIXED_WINDOW, 1, 1, 1)
        rule = Rule(id=0, name="path", rate=rate, path=pattern)
        self._index = compile_ruleset(Ruleset(0, (rule,)))
        self._tokens = _tokens(pattern)
        self._known: dict[str, bool | None] = {}

    @property
    def by_shape(self) -> bool:
        """Whether it says the same of all paths of one shape."""
        return self._pattern.kind is not PathKind.EXACT

    def holds(self, path: str, route: str | None) -> bool | None:
        """``route`` None: the view is not known."""
        kind = self._pattern.kind
        if kind is PathKind.ANY:
            return True
        if kind is PathKind.VIEW:
            return None if route is None else route == self._pattern.value
        if kind is PathKind.EXACT:
            return path == self._exact
        if not is_masked(path):
            facts = RequestFacts("", path, "")
            return bool(self._index.candidates(facts, 0))
        # What was digested is of no matter here, and so many paths are one.
        shape = shape_of(path)
        if shape not in self._known:
            self._known[shape] = self._judge(shape)
        return self._known[shape]

    def _judge(self, shape: str) -> bool | None:
        if self._tokens is None:
            return self._by_beginning(shape)
        items = list(_items(shape))
        if not _can(self._tokens, items):
            return False
        return True if _must(self._tokens, items) else None

    def _by_beginning(self, shape: str) -> bool | None:
        """Of a pattern that is not understood: what all its matches begin with."""
        place = compile_path(self._pattern).place
        if not isinstance(place, Segments) or None in place.segments:
            return None
        begins = "/".join([*(part or "" for part in place.segments), place.head or ""])
        known = shape.partition("{")[0]
        shorter = min(len(begins), len(known))
        return False if begins[:shorter] != known[:shorter] else None


class _Item(NamedTuple):
    """A character, or any (``""``: none that is "/"; ``"*"``: any at all); many: as often as one
    likes."""

    char: str
    many: bool = False


_SEGMENT, _ANY = "", "*any"


def _meet(one: str, other: str) -> bool:
    if one == _ANY or other == _ANY:
        return True
    if one == _SEGMENT or other == _SEGMENT:
        return "/" not in (one, other)
    return one == other


def _tokens(pattern: PathPattern) -> list[_Item] | None:
    """None: more than characters and wildcards."""
    match pattern.kind:
        case PathKind.PREFIX:
            return [*map(_Item, pattern.value), _Item(_ANY, True)]
        case PathKind.GLOB:
            wild = {"*": [_Item(_SEGMENT, True)], "?": [_Item(_SEGMENT)]}
            found = re.findall(r"[*]+|[^*]", pattern.value)
            many = [_Item(_ANY, True)]
            return [
                item
                for token in found
                for item in (many if token[:2] == "**" else wild.get(token) or [_Item(token)])
            ]
        case PathKind.REGEX:
            return _regex_tokens(pattern.value)
    return None


_REGEX = re.compile(r"(\[\^/\]|\.)([*+]?)|\\([^A-Za-z0-9])|([^\\\[\](){}.*+?|^$])(?![*+?{])")


def _regex_tokens(source: str) -> list[_Item] | None:
    source = source.removeprefix("^")
    source = source[:-1] if source.endswith("$") and not source.endswith("\\$") else source
    items: list[_Item] = []
    at = 0
    while at < len(source):
        found = _REGEX.match(source, at)
        if found is None:
            return None
        at = found.end()
        if found[1]:
            char = _ANY if found[1] == "." else _SEGMENT
            if found[2] != "*":
                items.append(_Item(char))
            if found[2]:
                items.append(_Item(char, True))
        else:
            items.append(_Item(found[3] or found[4]))
    return items


def _items(shape: str) -> Iterator[_Item]:
    for part in re.split(r"(\{\*?\})", shape):
        if part.startswith("{"):
            char = _ANY if part == "{*}" else _SEGMENT
            yield from (_Item(char), _Item(char, True))
        else:
            yield from map(_Item, part)


def _can(pattern: Sequence[_Item], path: Sequence[_Item]) -> bool:
    """Whether a value exists with which the pattern matches."""
    waiting, seen = [(0, 0)], {(0, 0)}
    while waiting:
        i, j = waiting.pop()
        if i == len(pattern) and j == len(path):
            return True
        one = pattern[i] if i < len(pattern) else None
        other = path[j] if j < len(path) else None
        nexts = []
        if one and one.many:
            nexts.append((i + 1, j))
        if other and other.many:
            nexts.append((i, j + 1))
        if one and other and _meet(one.char, other.char):
            nexts.append((i if one.many else i + 1, j if other.many else j + 1))
        for state in nexts:
            if state not in seen:
                seen.add(state)
                waiting.append(state)
    return False


_UNHEARD_OF = "\0"
"""A character that no pattern names: whatever matches it matches every other but "/"."""


def _must(pattern: Sequence[_Item], path: Sequence[_Item]) -> bool:
    """Whether the pattern matches with every value: also with the one that only wildcards match."""

    def closed(states: set[int]) -> frozenset[int]:
        for state in sorted(states):
            while state < len(pattern) and pattern[state].many:
                state += 1
                states.add(state)
        return frozenset(states)

    def after(states: frozenset[int], char: str) -> frozenset[int]:
        found = set()
        for state in states:
            if state < len(pattern) and _meet(pattern[state].char, char):
                found.add(state if pattern[state].many else state + 1)
        return closed(found)

    now = {closed({0})}
    for item in path:
        chars = {_ANY: (_UNHEARD_OF, "/"), _SEGMENT: (_UNHEARD_OF,)}.get(item.char, (item.char,))
        if not item.many:
            now = {after(states, char) for states in now for char in chars}
            continue
        waiting = list(now)
        while waiting:
            if len(now) > MAX_STATES:
                return False
            states = waiting.pop()
            for char in chars:
                new = after(states, char)
                if new not in now:
                    now.add(new)
                    waiting.append(new)
    return all(len(pattern) in states for states in now)
