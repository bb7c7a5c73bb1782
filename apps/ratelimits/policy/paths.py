"""What a path pattern means, in the form in which the index looks it up.

``compile_path`` takes a pattern apart: a ``place`` says what a lookup alone can decide, and a
``test`` of the whole path remains only where that does not say it all. Exact paths, prefixes,
view names and most globs need no test, and so neither a pattern in RE2 nor its memory.

A test sees a lone surrogate as U+FFFD, since RE2 reads UTF-8; a place is compared with the path
as it came. That is why U+FFFD is never part of the place of a pattern that has a test.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import re2

from .errors import PolicyError
from .rules import PathKind, PathPattern

MAX_PATTERN_CHARS = 500
_RE2_MAX_MEM_BYTES = 1 << 20
_MAX_LITERAL_BYTES = 64
"""How much of a pattern's literal beginning is looked for: RE2 keeps a state for each byte."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_LITERAL = re.compile("[*?\ufffd]")
_REST_IS_FREE = re.compile("[^*?\ufffd/]*[*]{2,}")

PathTest = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class ExactPath:
    path: str


@dataclass(frozen=True, slots=True)
class ViewName:
    route: str


@dataclass(frozen=True, slots=True)
class Nowhere:
    """No path leads to the limit: code asks for it by name."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Paths that begin with these segments, as ``/`` separates them; None is any one segment.

    The next segment, which must be there, begins with ``head``, and whatever may follow it. Where
    ``head`` is None the path ends with the segments.
    """

    segments: tuple[str | None, ...]
    head: str | None


Place = ExactPath | ViewName | Segments | Nowhere


@dataclass(frozen=True, slots=True)
class CompiledPath:
    place: Place
    test: PathTest | None = None
    """What is left to ask of a path that the place lets through."""


def compile_path(pattern: PathPattern) -> CompiledPath:
    """Raises PolicyError where the pattern cannot be used."""
    value = pattern.value
    if len(value) > MAX_PATTERN_CHARS:
        raise PolicyError(f"a path pattern of {len(value)} characters: at most {MAX_PATTERN_CHARS}")
    if _SURROGATE.search(value):
        raise PolicyError(f"the path pattern {value!r} is no valid Unicode: remove the surrogate")
    match pattern.kind:
        case PathKind.ANY:
            return CompiledPath(_beginning_with(""))
        case PathKind.NAMED:
            return CompiledPath(Nowhere())
        case PathKind.VIEW:
            if not value:
                raise PolicyError("name the view, for example 'blog:detail'")
            return CompiledPath(ViewName(value))
        case PathKind.REGEX:
            compiled = _compile_regex(value)
            return CompiledPath(_beginning_with(_literal_prefix(compiled)), _test(compiled))
    if not value.startswith("/"):
        raise PolicyError(f"the path {value!r} must begin with '/'")
    match pattern.kind:
        case PathKind.EXACT:
            return CompiledPath(ExactPath(value))
        case PathKind.PREFIX:
            return CompiledPath(_beginning_with(value))
        case PathKind.GLOB:
            return _compile_glob(value)


def _beginning_with(literal: str) -> Segments:
    *segments, head = literal.split("/")
    return Segments(tuple(segments), head)


def _compile_glob(glob: str) -> CompiledPath:
    """``*`` is one segment, ``**`` any number of them, ``?`` one character of a segment.

    No wildcard but ``**`` crosses a ``/``: so segments decide until the first that is neither
    literal nor a lone ``*``.
    """
    parts = glob.split("/")
    whole = list(takewhile(lambda part: part == "*" or not _NOT_LITERAL.search(part), parts))
    segments = tuple(None if part == "*" else part for part in whole)
    if len(whole) == len(parts):
        return CompiledPath(Segments(segments, None) if None in segments else ExactPath(glob))
    rest = "/".join(parts[len(whole) :])
    place = Segments(segments, _NOT_LITERAL.split(rest)[0])
    if _REST_IS_FREE.fullmatch(rest):
        return CompiledPath(place)
    return CompiledPath(place, _test(_compile_regex(_glob_to_regex(glob))))


def _glob_to_regex(glob: str) -> str:
    wildcards = {"*": "[^/]*", "?": "[^/]"}
    return "".join(
        ".*" if token.startswith("**") else wildcards.get(token) or re2.escape(token)
        for token in re.findall(r"[*]+|[?]|[^*?]+", glob)
    )


def _compile_regex(source: str) -> Any:
    options = re2.Options()
    options.max_mem = _RE2_MAX_MEM_BYTES
    options.log_errors = False
    options.dot_nl = True
    options.never_capture = True  # Nobody asks for groups, and finding them is what is slow.
    try:
        return re2.compile(source, options)
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode() if isinstance(reason, bytes) else str(reason)
        raise PolicyError(f"RE2 does not accept {source!r}: {text}") from error


def _test(compiled: Any) -> PathTest:
    return lambda path: compiled.fullmatch(_as_utf8(path)) is not None


def _as_utf8(path: str) -> bytes:
    """The path as RE2 can read it: a lone surrogate becomes U+FFFD."""
    try:
        return path.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", path).encode()


def _literal_prefix(compiled: Any) -> str:
    """What every match begins with: all of them lie between two texts that RE2 names, and so
    begin with what those have in common. Empty where RE2 can tell nothing."""
    try:
        lowest, highest = compiled.possiblematchrange(_MAX_LITERAL_BYTES)
    except re2.error:
        return ""
    pairs = zip(lowest, highest, strict=False)
    common = bytes(low for low, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    # A character that is cut off at the end becomes U+FFFD, and is left out as that is.
    return common.decode(errors="replace").partition("\ufffd")[0]
