"""The index finds the very patterns that match, and those only."""

from __future__ import annotations

from functools import cache

import re2
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.path_index import PathIndex
from apps.ratelimits.policy.paths import ExactPath, Segments, ViewName, compile_path
from apps.ratelimits.policy.rules import PathKind, PathPattern


def test_places_are_found_in_their_order():
    index = PathIndex(
        [
            Segments(("", "a"), ""),
            ExactPath("/a/b"),
            Segments((), ""),
            ViewName("home"),
            Segments(("", None), None),
            Segments(("", None), "b"),
            ExactPath("/a/b"),
            Segments(("", None, "b"), None),
            Segments(("", "a", None), None),
        ]
    )
    assert index.find("/a/b", "home") == [0, 1, 2, 3, 5, 6, 7, 8]
    assert index.find("/a", "") == [2, 4]
    assert index.find("/x/bcd", "") == [2, 5]
    assert index.find("", "") == [2]


def test_a_path_deeper_than_every_place_is_under_those_it_begins_with():
    index = PathIndex(
        [Segments(("",), "a/"[:1]), Segments(("", None), None), Segments(("", None), "")]
    )
    assert index.find("/a/b" * 10_000, "") == [0, 2]


def test_an_empty_index_finds_nothing():
    assert PathIndex([]).find("/a", "home") == []


@cache
def _re2(source: str):
    options = re2.Options()
    options.dot_nl = True
    return re2.compile(source, options)


def _glob_source(glob: str) -> str:
    parts = []
    for char in glob:
        if char == "*" and parts and parts[-1] in ("[^/]*", ".*"):
            parts[-1] = ".*"
        else:
            parts.append({"*": "[^/]*", "?": "[^/]"}.get(char) or re2.escape(char))
    return "".join(parts)


def matches_by_itself(pattern: PathPattern, path: str, route: str) -> bool:
    """The definition: every kind by one comparison, with nothing shared with the index."""
    seen = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in path)
    match pattern.kind:
        case PathKind.ANY:
            return True
        case PathKind.EXACT:
            return path == pattern.value
        case PathKind.PREFIX:
            return path.startswith(pattern.value)
        case PathKind.VIEW:
            return route == pattern.value
        case PathKind.GLOB:
            return _re2(_glob_source(pattern.value)).fullmatch(seen) is not None
        case PathKind.REGEX:
            return _re2(pattern.value).fullmatch(seen) is not None


PIECES = ["/", "//", "api", "te", "test", "a", "é", "😀", "\n", ".", "\ufffd", "v1"]
PLAIN = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
GLOBS = st.lists(st.sampled_from([*PIECES, "*", "**", "?", "/*/", "/**/"]), max_size=6).map("".join)
REGEXES = st.lists(
    st.sampled_from(
        [
            "/",
            "api",
            "te",
            "a",
            "é",
            r"\n",
            ".*",
            "[^/]+",
            "(?:a|é)",
            "(?i:API)",
            "t?",
            "/+",
            "|",
            "\ufffd",
        ]
    ),
    max_size=6,
).map("".join)
PATTERNS = st.one_of(
    st.just(PathPattern()),
    st.builds(PathPattern, st.just(PathKind.EXACT), PLAIN.map("/".__add__)),
    st.builds(PathPattern, st.just(PathKind.PREFIX), PLAIN.map("/".__add__)),
    st.builds(PathPattern, st.just(PathKind.GLOB), GLOBS.map("/".__add__)),
    st.builds(PathPattern, st.just(PathKind.REGEX), REGEXES),
    st.builds(PathPattern, st.just(PathKind.VIEW), st.sampled_from(["home", "blog:detail"])),
)
PATHS = st.one_of(
    st.lists(st.sampled_from([*PIECES, "\ud800", "*", "?", "**"]), max_size=8).map("".join),
    st.lists(st.sampled_from([*PIECES, "\udcff"]), max_size=8).map(
        lambda parts: "/" + "".join(parts)
    ),
    st.lists(st.sampled_from(["", "api", "te", "test", "a", "v1"]), max_size=5).map(
        lambda segments: "/" + "/".join(segments)
    ),
    st.text(max_size=8),
)


@given(
    st.lists(PATTERNS, max_size=20),
    st.lists(PATHS, min_size=1, max_size=10),
    st.sampled_from(["", "home"]),
)
def test_the_index_gives_what_trying_every_pattern_gives(patterns, paths, route):
    compiled = [compile_path(pattern) for pattern in patterns]
    index = PathIndex(own.place for own in compiled)
    # Patterns as paths too: the likeliest to be taken for what they are not.
    for path in [*paths, *(pattern.value for pattern in patterns)]:
        tests = [(n, compiled[n].test) for n in index.find(path, route)]
        found = [n for n, test in tests if test is None or test(path)]
        expected = [n for n, own in enumerate(patterns) if matches_by_itself(own, path, route)]
        assert found == expected
