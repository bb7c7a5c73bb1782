"""Which limits match, and whom they count."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.errors import PolicyError
from apps.ratelimits.policy.facts import RequestFacts, UserFacts
from apps.ratelimits.policy.identity import digest
from apps.ratelimits.policy.matching import (
    applies_to,
    compile_path,
    compile_rule,
    compile_ruleset,
    parse_networks,
)
from apps.ratelimits.policy.rules import (
    Algorithm,
    Audience,
    Override,
    OverrideAction,
    PathKind,
    PathPattern,
    Rate,
    Rule,
    Ruleset,
)


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


RATE = Rate(Algorithm.FIXED_WINDOW, 10, 1_000_000, 10)


def facts(**changes):
    return RequestFacts(**{"method": "GET", "path": "/", "address": "203.0.113.9", **changes})


def matches(request=None, now_us=0, **rule):
    return compile_rule(Rule(1, "one", RATE, **rule)).matches(request or facts(), now_us)


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
    assert compile_path(PathPattern(PathKind(kind), value))(facts(path=path)) is expected


@given(st.sampled_from(PathKind), st.text(max_size=40), st.text(max_size=40))
def test_a_pattern_is_refused_as_a_policy_or_works(kind, value, path):
    try:
        test = compile_path(PathPattern(kind, value))
    except PolicyError:
        return
    assert test(facts(path=path)) in (True, False)


@given(st.text(alphabet="ab.+(){}[]\\^$|/é", max_size=20))
def test_a_glob_without_wildcards_is_exact(text):
    test = compile_path(PathPattern(PathKind.GLOB, "/" + text))
    assert test(facts(path="/" + text))
    assert not test(facts(path="/" + text + "x"))


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
    view = PathPattern(PathKind.VIEW, "blog:detail")
    assert matches(facts(route="blog:detail"), path=view)
    assert not matches(facts(route="blog:details"), path=view)
    assert not matches(facts(), path=view)


def test_methods():
    assert matches(facts(method="PATCH"))
    assert matches(facts(method="POST"), methods=frozenset({"POST", "PUT"}))
    assert not matches(facts(method="GET"), methods=frozenset({"POST", "PUT"}))


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("", "anything", True),
        ("", "", True),
        ("example.com", "example.com", True),
        ("example.com", "www.example.com", False),
        ("*.example.com", "www.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "wwwXexample.com", False),
        ("Example.COM", "example.com", True),
        ("example.com", "EXAMPLE.com", True),
        ("example.com", "example.com.", True),
        ("example.com.", "example.com", True),
        ("*.example.com", "www.example.com.", True),
        ("example.com", "", False),
    ],
)
def test_hosts_are_compared_as_names_are(pattern, host, expected):
    assert matches(facts(host=host), host=pattern) is expected


def test_networks_and_excluded_networks():
    office = ("203.0.113.0/24", "2001:db8::/32")
    assert matches(networks=office)
    assert matches(facts(address="2001:db8:7::/64"), networks=office)
    assert not matches(facts(address="198.51.100.1"), networks=office)
    assert not matches(facts(address="unknown"), networks=office)
    assert not matches(networks_excluded=office)
    assert matches(facts(address="unknown"), networks_excluded=office)
    assert not matches(networks=office, networks_excluded=("203.0.113.9/32",))


@pytest.mark.parametrize("text", ["", "x", "10.0.0.1/8", "10.0.0.0/33", "2001:db8::1/64", " ::1"])
def test_what_is_no_network_is_refused_wherever_it_stands(text):
    for place in (
        {"networks": (text,)},
        {"networks_excluded": ("10.0.0.0/8", text)},
        {"overrides": (Override("network", text, OverrideAction.BLOCKED),)},
    ):
        with pytest.raises(PolicyError, match=re.escape(f"{text!r} is no network")):
            compile_rule(Rule(1, "one", RATE, **place))


def test_an_overrides_network_is_read_and_its_user_is_not():
    compiled = compile_rule(
        Rule(
            1,
            "one",
            RATE,
            overrides=(
                Override("user", "10.0.0.0/8", OverrideAction.UNLIMITED),
                Override("network", "10.0.0.0/8", OverrideAction.UNLIMITED),
            ),
        )
    )
    assert compiled.overrides == ((), parse_networks(("10.0.0.0/8",)))


def test_a_limit_is_active_from_its_beginning_until_before_its_end():
    window = {"active_from_us": 100, "active_until_us": 200}
    assert [matches(now_us=now, **window) for now in (99, 100, 199, 200)] == [
        False,
        True,
        True,
        False,
    ]
    assert matches(now_us=10**18, active_from_us=100)
    assert matches(now_us=0, active_until_us=100)


VISITOR = UserFacts()
MEMBER = UserFacts("7", groups=frozenset({"beta", "eu"}))
STAFF = UserFacts("1", is_staff=True)


@pytest.mark.parametrize(
    ("audience", "groups", "expected"),
    [
        (Audience.EVERYONE, (), [True, True, True]),
        (Audience.ANONYMOUS, (), [True, False, False]),
        (Audience.SIGNED_IN, (), [False, True, True]),
        (Audience.STAFF, (), [False, False, True]),
        (Audience.EVERYONE, ("beta", "alpha"), [False, True, False]),
        (Audience.STAFF, ("beta",), [False, False, False]),
        (Audience.ANONYMOUS, ("beta",), [False, False, False]),
    ],
)
def test_the_audience_and_the_groups_both_have_to_fit(audience, groups, expected):
    rule = Rule(1, "one", RATE, audience=audience, groups=frozenset(groups))
    assert [applies_to(rule, user) for user in (VISITOR, MEMBER, STAFF)] == expected


def test_an_index_gives_the_limits_that_match_in_their_order():
    paths = [
        PathPattern(PathKind.PREFIX, "/api/"),
        PathPattern(),
        PathPattern(PathKind.EXACT, "/login"),
    ]
    rules = tuple(Rule(n, f"rule-{n}", RATE, path=path) for n, path in enumerate(paths))
    index = compile_ruleset(Ruleset(5, rules))
    assert index.version == 5
    assert not index.needs_route
    assert [c.rule.id for c in index.candidates(facts(path="/api/x"), 0)] == [0, 1]
    assert [c.rule.id for c in index.candidates(facts(path="/login"), 0)] == [1, 2]
    view = Rule(9, "view", RATE, path=PathPattern(PathKind.VIEW, "home"))
    assert compile_ruleset(Ruleset(6, (*rules, view))).needs_route
