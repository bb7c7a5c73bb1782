"""What path patterns mean, and which cannot be used."""

from __future__ import annotations

import re
import time
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.ratelimits.policy.errors import PolicyError
from apps.ratelimits.policy.path_index import PathIndex
from apps.ratelimits.policy.paths import CompiledPath, ExactPath, Segments, ViewName, compile_path
from apps.ratelimits.policy.rules import PathKind, PathPattern


def matches(kind: str, value: str, path: str, route: str = "") -> bool:
    compiled = compile_path(PathPattern(PathKind(kind), value))
    found = bool(PathIndex([compiled.place]).find(path, route))
    return found and (compiled.test is None or compiled.test(path))


@pytest.mark.parametrize(
    ("kind", "value", "path", "expected"),
    [
        ("any", "", "/x", True),
        ("exact", "/api", "/api", True),
        ("exact", "/api", "/api/", False),
        ("prefix", "/api/", "/api/x/y", True),
        ("prefix", "/api/", "/apix", False),
        ("glob", "/api/*/x", "/api/a/x", True),
        ("glob", "/api/*/x", "/api/a/b/x", False),
        ("glob", "/api/**/x", "/api/a/b/x", True),
        ("glob", "/a.b?", "/a.bc", True),
        ("glob", "/a.b?", "/axbc", False),
        ("regex", "/api/[0-9]+", "/api/42", True),
        ("regex", "/api/[0-9]+", "/api/42/x", False),
        ("view", "blog:detail", "/x", False),
    ],
)
def test_paths(kind, value, path, expected):
    assert matches(kind, value, path) is expected


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("exact", "api", "must begin with"),
        ("regex", "(", "RE2 does not accept"),
        ("regex", r"(a)\1", "RE2 does not accept"),
        ("regex", "a" * 501, "at most 500"),
        ("view", "", "name the view"),
    ],
)
def test_patterns_that_cannot_be_used(kind, value, said):
    with pytest.raises(PolicyError, match=said):
        compile_path(PathPattern(PathKind(kind), value))


def test_a_pattern_made_to_explode_does_not():
    assert not matches("regex", "(a*)*b", "/" + "a" * 50_000)


@pytest.mark.parametrize(
    ("kind", "value", "path"),
    [
        ("regex", "(a|aa)+$", "a" * 65_536 + "!"),
        ("regex", "/(a+)+$", "a" * 65_536 + "!"),
        ("regex", "/([a-zA-Z]+)*$", "a" * 65_536 + "!"),
        ("regex", "/(x+x+)+y", "x" * 65_536),
        ("regex", "/(.*)(.*)(.*)(.*)(.*)[^/]y", "a" * 65_536),
        ("regex", "/.*.*=.*", "x=x" * 20_000),
        ("regex", "/(a?){200}a{200}", "a" * 65_536),
        ("regex", "/.*[ab].{60}c", "ab" * 32_768),
        # The dearest that was found: its states do not fit the memory that a pattern may take.
        ("regex", "/.*x.{200}y.{200}z", "xyz" * 21_845),
        ("glob", "/" + "*a" * 240, "a" * 65_536),
        ("glob", "/" + "**a" * 160 + "b", "a" * 65_536),
        ("glob", "/" + "**/" * 160 + "b", "a/" * 32_768),
        ("glob", "/" + "?" * 400 + "b", "a" * 65_536),
    ],
)
def test_the_patterns_that_explode_elsewhere_take_bounded_time(kind, value, path):
    """64 kB of path, more than a server takes; one try in a second, where others take years."""
    began = time.process_time()
    matches(kind, value, "/" + path)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "value",
    ["(((a{30}){30}){30}){30}", "(?:a{1,100}){1,100}", r"/.*(\pL{1,60}\pN{1,60})+x", "(x{500}){9}"],
)
def test_a_pattern_that_takes_much_memory_is_refused(value):
    with pytest.raises(PolicyError, match="RE2 does not accept"):
        compile_path(PathPattern(PathKind.REGEX, value))


@pytest.mark.parametrize("kind", ["glob", "regex", "prefix"])
def test_the_longest_pattern_is_compiled_in_bounded_time(kind):
    began = time.process_time()
    with suppress(PolicyError):
        compile_path(PathPattern(PathKind(kind), ("/" + "a?*.(b|c)" * 100)[:500]))
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("kind", "value", "path", "expected"),
    [
        ("exact", "/API", "/api", False),
        ("prefix", "/", "/anything", True),
        ("prefix", "/a.b", "/axb", False),
        ("glob", "/api/*", "/api/", True),
        ("glob", "/api/*", "/api", False),
        ("glob", "/**", "/", True),
        ("glob", "/a***", "/a/b/c", True),
        ("glob", "/a?c", "/a/c", False),
        ("glob", "/a[b]", "/a[b]", True),
        ("glob", "/a[b]", "/ab", False),
        ("glob", "/a+(b)$", "/a+(b)$", True),
        ("glob", "/é*/?", "/éa/😀", True),
        ("glob", "/a**", "/a\nb", True),
        ("regex", "/a.b", "/a\nb", True),
        ("regex", "/a", "/a\n", False),
        ("regex", "/a|/b", "/bc", False),
        ("regex", "(?i)/API", "/api", True),
        ("regex", "/.*", "/\ud800", True),
        ("glob", "/*", "/\udcff", True),
        ("exact", "/a", "/\ud800", False),
    ],
)
def test_a_pattern_means_the_whole_path_and_its_own_characters(kind, value, path, expected):
    assert matches(kind, value, path) is expected


@given(st.sampled_from(PathKind), st.text(max_size=40), st.text(max_size=40))
def test_a_pattern_is_refused_as_a_policy_or_works(kind, value, path):
    with suppress(PolicyError):
        assert matches(kind, value, path) in (True, False)


@given(st.text(alphabet="ab.+(){}[]\\^$|/é", max_size=20))
def test_a_glob_without_wildcards_is_exact(text):
    assert matches("glob", "/" + text, "/" + text)
    assert not matches("glob", "/" + text, "/" + text + "x")


@pytest.mark.parametrize("kind", ["exact", "prefix", "glob", "regex", "view"])
def test_a_pattern_that_is_no_unicode_is_refused(kind):
    with pytest.raises(PolicyError, match="no valid Unicode"):
        compile_path(PathPattern(PathKind(kind), "/\ud800"))


@pytest.mark.parametrize("value", ["", "x", "*", " /x"])
@pytest.mark.parametrize("kind", ["exact", "prefix", "glob"])
def test_a_path_begins_with_a_slash(kind, value):
    with pytest.raises(PolicyError, match="must begin with '/'"):
        compile_path(PathPattern(PathKind(kind), value))


@pytest.mark.parametrize("value", ["(", "[a", "*", "(?=a)", "(?<!a)b", r"\1", "a{99999}"])
def test_what_re2_does_not_accept_is_said(value):
    with pytest.raises(PolicyError, match=re.escape(f"RE2 does not accept {value!r}: ")):
        compile_path(PathPattern(PathKind.REGEX, value))


def test_a_pattern_too_large_to_compile_is_refused():
    with pytest.raises(PolicyError, match="RE2 does not accept"):
        compile_path(PathPattern(PathKind.REGEX, "(" + "[a-zé]{30}" * 30 + "){30}"))


def test_a_view_is_matched_by_its_whole_name():
    assert matches("view", "blog:detail", "/", route="blog:detail")
    assert not matches("view", "blog:detail", "/", route="blog:details")
    assert not matches("view", "blog:detail", "/")


@pytest.mark.parametrize(
    ("kind", "value", "place"),
    [
        ("any", "", Segments((), "")),
        ("exact", "/a/*", ExactPath("/a/*")),
        ("prefix", "/api/te", Segments(("", "api"), "te")),
        ("prefix", "/api/*", Segments(("", "api"), "*")),
        ("view", "blog:detail", ViewName("blog:detail")),
        ("glob", "/a/b/", ExactPath("/a/b/")),
        ("glob", "/a/*/b", Segments(("", "a", None, "b"), None)),
        ("glob", "/a/*/te**", Segments(("", "a", None), "te")),
        ("glob", "//**", Segments(("", ""), "")),
    ],
)
def test_what_a_lookup_can_decide_needs_no_test(kind, value, place):
    assert compile_path(PathPattern(PathKind(kind), value)) == CompiledPath(place)


@pytest.mark.parametrize(
    ("kind", "value", "place"),
    [
        ("glob", "/a/*/x-?/b", Segments(("", "a", None), "x-")),
        ("glob", "/a/**/b", Segments(("", "a"), "")),
        ("glob", "/a/b**/", Segments(("", "a"), "b")),
        ("glob", "/a/b\ufffd/c", Segments(("", "a"), "b")),
        ("regex", "/api/us[0-9]+/x", Segments(("", "api"), "us")),
        ("regex", "/api/(?:v1|v2)", Segments(("", "api"), "v")),
        ("regex", r"/a\.b/.*", Segments(("", "a.b"), "")),
        ("regex", "^/a/b$", Segments(("", "a"), "b")),
        ("regex", "(?i)/api", Segments(("",), "")),
        ("regex", "/[èé]x", Segments(("",), "")),
        ("regex", "/a\ufffd/b", Segments(("",), "a")),
        ("regex", "/a|b", Segments((), "")),
        ("regex", ".*/a", Segments((), "")),
        ("regex", "(?:/a)*", Segments((), "")),
        ("regex", "", Segments((), "")),
    ],
)
def test_a_pattern_is_tried_only_where_it_can_begin(kind, value, place):
    compiled = compile_path(PathPattern(PathKind(kind), value))
    assert compiled.place == place
    assert compiled.test is not None


CHARS = "/ab*?.é\ufffd\n"
ATOMS = [
    *"/ab.",
    "é",
    "\ufffd",
    "[ab]",
    "[^/]",
    r"\.",
    "(?i:a)",
    r"\b",
    "^",
    "$",
    r"\C",
    "èé",
    r"\x{10ffff}",
]
PATTERNS = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "*?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=8,
)
HOSTILE = st.text(alphabet=CHARS + "Aè\udcff\U0010ffff", max_size=10).map("/".__add__)


@given(PATTERNS, HOSTILE, st.booleans())
@example("/\ufffd", "/\udcff", True)
@example("/(?i:a)", "/A", True)
def test_a_pattern_has_its_place_wherever_it_matches(pattern, path, slash):
    """Where the place sends no path on, the pattern would not have matched it."""
    compiled = compile_path(PathPattern(PathKind.REGEX, "/" * slash + pattern))
    assert compiled.test is not None
    if compiled.test(path):
        assert PathIndex([compiled.place]).find(path, "")


def glob_by_re(glob: str, path: str) -> bool:
    """Globs as their definition reads, in the standard library's expressions."""
    source = re.escape(glob)
    source = re.sub(r"(?:\\\*){2,}", ".*", source).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    seen = re.sub("[\ud800-\udfff]", "\ufffd", path)
    return re.fullmatch(source, seen, re.DOTALL) is not None


@given(st.text(alphabet=CHARS, max_size=8).map("/".__add__), st.data())
def test_globs_mean_what_their_definition_says(glob, data):
    path = data.draw(paths_like(glob))
    assert matches("glob", glob, path) is glob_by_re(glob, path)


def paths_like(glob: str) -> st.SearchStrategy[str]:
    """Paths that are likely to match, or to miss by little."""
    stands_for = {
        "*": ["", "a", "b\n", "/"],
        "?": ["a", "/", "\udcff"],
        "\ufffd": ["\ufffd", "\udcff"],
    }
    parts = [st.sampled_from(stands_for.get(char, [char, char, char, ""])) for char in glob]
    return st.tuples(*parts).map("".join)
