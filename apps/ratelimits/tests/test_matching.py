"""Which limits match, and whom they count."""

import re
from dataclasses import replace
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.errors import PolicyError
from apps.ratelimits.policy.facts import RequestFacts, UserFacts
from apps.ratelimits.policy.matching import (
    applies_to,
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
    with_quota,
)


def test_a_network_that_is_none_is_named():
    with pytest.raises(PolicyError, match=r"10\.0\.0\.0/33"):
        parse_networks(("10.0.0.0/33",))


RATE = Rate(Algorithm.FIXED_WINDOW, 10, 1_000_000, 10)


def facts(**changes):
    return RequestFacts(**{"method": "GET", "path": "/", "address": "203.0.113.9", **changes})


def matches(request=None, now_us=0, **rule):
    index = compile_ruleset(Ruleset(1, (Rule(1, "one", RATE, **rule),)))
    return bool(index.candidates(request or facts(), now_us))


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
    assert [own.networks for own in compiled.overrides] == [(), parse_networks(("10.0.0.0/8",))]


def test_an_override_has_the_rule_as_it_is_for_those_it_is_about():
    overrides = (
        Override("user", "7", OverrideAction.QUOTA, 3),
        Override("user", "8", OverrideAction.UNLIMITED),
        Override("user", "9", OverrideAction.BLOCKED),
    )
    rule = Rule(1, "one", RATE, overrides=overrides)
    compiled = compile_rule(rule)
    assert tuple(own.override for own in compiled.overrides) == overrides
    quota, unlimited, blocked = (own.rule for own in compiled.overrides)
    assert quota == replace(rule, rate=with_quota(RATE, 3))
    assert unlimited is blocked is compiled.rule is rule


@pytest.mark.parametrize(("quota", "lease"), [(3, 3), (8, 5)])
def test_an_override_leases_no_more_than_its_own_quota(quota, lease):
    override = Override("user", "7", OverrideAction.QUOTA, quota)
    compiled = compile_rule(Rule(1, "one", RATE, lease=5, overrides=(override,)))
    assert (compiled.rule.lease, compiled.overrides[0].rule.lease) == (5, lease)


def test_an_override_with_an_impossible_quota_is_refused():
    override = Override("user", "7", OverrideAction.QUOTA, 1)
    with pytest.raises(PolicyError, match="a request costs 2"):
        compile_rule(Rule(1, "one", replace(RATE, cost=2), overrides=(override,)))


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


SHAPES = [
    (PathKind.EXACT, "/tenants/{}/login"),
    (PathKind.PREFIX, "/tenants/{}/"),
    (PathKind.PREFIX, "/t{}"),
    (PathKind.GLOB, "/tenants/*/things/{}"),
    (PathKind.GLOB, "/tenants/{}/**"),
    (PathKind.GLOB, "/files/{}-*.json"),
    (PathKind.REGEX, "/tenants/{}/[0-9]+"),
    (PathKind.REGEX, "/(?:v1|v2)/{}"),
    (PathKind.VIEW, "tenant-{}:detail"),
]


def test_limits_for_other_paths_are_not_even_considered():
    """What keeps a request's cost from growing with the number of limits."""
    many = [
        Rule(n, f"rule-{n}", RATE, path=PathPattern(kind, template.format(f"no-{n}")))
        for n, (kind, template) in zip(range(2_000), cycle(SHAPES), strict=False)
    ]
    own = [
        Rule(9_001, "any", RATE),
        Rule(9_002, "posts", RATE, methods=frozenset({"POST"})),
        Rule(9_003, "regex", RATE, path=PathPattern(PathKind.REGEX, "/tenants/ada/[a-z]+")),
        Rule(9_004, "digits", RATE, path=PathPattern(PathKind.REGEX, "/tenants/ada/[0-9]+")),
        Rule(9_005, "view", RATE, path=PathPattern(PathKind.VIEW, "tenant:detail")),
    ]
    index = compile_ruleset(Ruleset(1, (*many, *own)))
    request = facts(path="/tenants/ada/login", route="tenant:detail")
    considered = [compiled.rule.id for compiled in index.considered(request)]
    assert considered == [9_001, 9_002, 9_003, 9_004, 9_005]
    assert [c.rule.id for c in index.candidates(request, 0)] == [9_001, 9_003, 9_005]


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "path": st.sampled_from(
                    [PathPattern(kind, template.format("1")) for kind, template in SHAPES]
                ),
                "methods": st.sampled_from([frozenset({"GET"}), frozenset({"POST", "PUT"})]),
                "host": st.sampled_from(["example.com", "*.example.com"]),
                "active_from_us": st.just(100),
                "active_until_us": st.just(200),
                "networks": st.sampled_from([("203.0.113.0/24",), ("2001:db8::/32", "::/64")]),
                "networks_excluded": st.just(("203.0.113.9/32",)),
            },
        ),
        max_size=12,
    ),
    st.builds(
        RequestFacts,
        method=st.sampled_from(["GET", "PUT"]),
        path=st.sampled_from(["/tenants/1/login", "/t1", "/v1/1", "/tenants/1/2", "/"]),
        address=st.sampled_from(["203.0.113.9", "203.0.113.8", "2001:db8::/64", "unknown"]),
        host=st.sampled_from(["example.com", "www.example.com", ""]),
        route=st.sampled_from(["tenant-1:detail", ""]),
    ),
    st.sampled_from([0, 100, 199, 200]),
)
def test_many_limits_give_what_each_gives_alone(changes, request, now_us):
    rules = [Rule(n, f"rule-{n}", RATE, **own) for n, own in enumerate(changes)]
    index = compile_ruleset(Ruleset(1, tuple(rules)))
    alone = [
        rule.id for rule, own in zip(rules, changes, strict=True) if matches(request, now_us, **own)
    ]
    assert [compiled.rule.id for compiled in index.candidates(request, now_us)] == alone
