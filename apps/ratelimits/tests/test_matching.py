"""Which limits match, and whom they count."""

import pytest

from apps.ratelimits.policy.errors import PolicyError
from apps.ratelimits.policy.facts import RequestFacts
from apps.ratelimits.policy.identity import digest
from apps.ratelimits.policy.matching import compile_path, parse_networks
from apps.ratelimits.policy.rules import PathKind, PathPattern


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
    test = compile_path(PathPattern(PathKind(kind), value))
    assert test(RequestFacts("GET", path, "203.0.113.9")) is expected


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
    test = compile_path(PathPattern(PathKind.REGEX, "(a*)*b"))
    assert not test(RequestFacts("GET", "/" + "a" * 50_000, "203.0.113.9"))


def test_a_network_that_is_none_is_named():
    with pytest.raises(PolicyError, match=r"10\.0\.0\.0/33"):
        parse_networks(("10.0.0.0/33",))


def test_parts_are_never_confused():
    assert digest(b"k", "a", "b:c") != digest(b"k", "a:b", "c")
    assert digest(b"k", "ab") != digest(b"k", "a", "b")
    assert digest(b"k", "a") != digest(b"other", "a")
    assert len(digest(b"k", "x" * 1_000_000)) == len(digest(b"k", "\ud800")) == 22
