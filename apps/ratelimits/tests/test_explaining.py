"""Why a limit is about a request or not: the same as the matching decides, and said."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.client_ip import client_address, derivation
from apps.ratelimits.policy.explaining import Outcome, Part, consider, counted_text, steps
from apps.ratelimits.policy.facts import ANONYMOUS, RequestFacts, UserFacts
from apps.ratelimits.policy.matching import applies_to, compile_rule, compile_ruleset
from apps.ratelimits.policy.rules import (
    Algorithm,
    Audience,
    CountedBy,
    Mode,
    Override,
    OverrideAction,
    PathKind,
    PathPattern,
    Rate,
    Rule,
    Ruleset,
)

RATE = Rate(Algorithm.FIXED_WINDOW, 10, 60_000_000, burst=10)
FACTS = RequestFacts("GET", "/api/test", "203.0.113.9", "www.example.com", "api-test")
USER = UserFacts("5", False, frozenset({"7"}), keys=(("x-api-key", "acme"),))
NOW_US = 1_000_000


def rule(**changes) -> Rule:
    return Rule(**{"id": 1, "name": "one", "rate": RATE, **changes})


def said(facts=FACTS, user=ANONYMOUS, unknown=(), **changes):
    found = consider(compile_rule(rule(**changes)), facts, user, NOW_US, unknown=frozenset(unknown))
    return found.outcome, " ".join(found.misses), found


def path(kind: str, value: str) -> PathPattern:
    return PathPattern(PathKind(kind), value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"mode": Mode.OFF}, "It is switched off."),
        ({"methods": frozenset({"PUT", "POST"})}, "It is about POST or PUT; this is GET."),
        ({"path": path("exact", "/x")}, "It is about exactly /x; this is /api/test."),
        ({"path": path("prefix", "/x")}, "paths that begin with /x; this is /api/test."),
        ({"path": path("glob", "/*/x")}, "paths such as /*/x; this is /api/test."),
        ({"path": path("regex", "/y.*")}, "paths that match /y.*; this is /api/test."),
        ({"path": path("view", "blog")}, "It is about the view blog; this is api-test."),
        ({"host": "*.x.org"}, "It is about the host *.x.org; this is www.example.com."),
        ({"networks": ("10.0.0.0/8",)}, "clients from 10.0.0.0/8; this one is 203.0.113.9."),
        ({"networks_excluded": ("203.0.113.0/24",)}, "It leaves out clients from 203.0.113.0/24;"),
        ({"audience": Audience.SIGNED_IN}, "signed-in users; this one is anonymous."),
        ({"audience": Audience.STAFF}, "It is about staff; this one is not."),
        ({"groups": frozenset({"8"})}, "users in group 8; this one is in none of them."),
        ({"active_from_us": 2_000_000}, "It is not active yet: it begins at 01 Jan 1970, 00:00:02"),
        ({"active_until_us": 500_000}, "It is no longer active: it ended at 01 Jan 1970"),
    ],
)
def test_why_it_does_not_match(changes, text):
    outcome, misses, _ = said(**changes)
    assert outcome is Outcome.MISSES
    assert text in misses


def test_every_reason_is_told_not_only_the_first():
    _, misses, _ = said(methods=frozenset({"POST"}), host="x.org", audience=Audience.STAFF)
    assert [word in misses for word in ("POST", "x.org", "staff")] == [True] * 3


def test_anonymous_only_and_named_groups():
    _, misses, _ = said(user=USER, audience=Audience.ANONYMOUS)
    assert misses == "It is about anonymous visitors; this one is signed in."
    compiled = compile_rule(rule(groups=frozenset({"8"})))
    found = consider(compiled, FACTS, USER, NOW_US, groups={"8": "partners"})
    assert found.misses == ("It is about users in partners; this one is in none of them.",)


def test_whom_it_counts_and_what_it_had_to_leave():
    _, _, found = said(counted_by=(CountedBy.ADDRESS, CountedBy.USER))
    assert (found.parts, found.instead) == (("address", "203.0.113.9"), (CountedBy.USER,))
    _, _, found = said(user=USER, counted_by=(CountedBy.USER, CountedBy.HEADER), header="x-api-key")
    assert found.instead == ()
    assert counted_text(found.parts) == "user 5 and the key of acme in x-api-key"
    facts = replace(FACTS, arguments=(("pk", "9"),))
    _, _, found = said(facts, counted_by=(CountedBy.VIEW_ARGUMENT,), view_argument="pk")
    assert (counted_text(found.parts), found.instead) == ("pk 9", ())
    assert counted_text(("everyone", "")) == "everyone together"
    # A session's key lets its reader in.
    assert "secret" not in counted_text(("session", "secret"))


@pytest.mark.parametrize(
    ("action", "outcome", "quota"),
    [
        (OverrideAction.UNLIMITED, Outcome.UNLIMITED, 10),
        (OverrideAction.BLOCKED, Outcome.BLOCKED, 10),
        (OverrideAction.QUOTA, Outcome.COUNTS, 50),
    ],
)
def test_which_override_applies(action, outcome, quota):
    override = Override("user", "5", action, 50 if action is OverrideAction.QUOTA else 0)
    general = Override("network", "0.0.0.0/0", OverrideAction.UNLIMITED)
    got, _, found = said(user=USER, overrides=(general, override))
    assert (got, found.override, found.rule.rate.quota) == (outcome, override, quota)
    ended = replace(override, until_us=NOW_US)
    assert said(user=USER, overrides=(ended,))[2].override is None


def test_a_block_of_a_limit_in_shadow_blocks_nobody():
    override = Override("user", "5", OverrideAction.BLOCKED)
    outcome, misses, _ = said(user=USER, overrides=(override,), mode=Mode.SHADOW)
    assert outcome is Outcome.MISSES
    assert "blocks nobody" in misses


ALL_UNKNOWN = tuple(Part)


def test_nothing_is_concluded_from_what_is_not_known():
    changes = {
        "networks": ("10.0.0.0/8",), "host": "x.org", "audience": Audience.STAFF,
        "path": path("regex", "/x.*"),
    }  # fmt: skip
    outcome, misses, found = said(unknown=ALL_UNKNOWN, **changes)
    assert (outcome, misses) == (Outcome.UNTOLD, "")
    assert set(found.untold) == {Part.ADDRESS, Part.HOST, Part.USER, Part.PATH}
    # What is known still says no.
    outcome, misses, _ = said(unknown=ALL_UNKNOWN, methods=frozenset({"POST"}), **changes)
    assert (outcome, misses) == (Outcome.MISSES, "It is about POST; this is GET.")
    _, _, found = said(unknown=[Part.USER], overrides=(Override("user", "5", "blocked"),))
    assert (found.outcome, found.untold) == (Outcome.COUNTS, (Part.USER,))


@pytest.mark.parametrize(
    ("kind", "value", "outcome"),
    [
        ("prefix", "/users/", Outcome.COUNTS),
        ("prefix", "/users/ada/", Outcome.UNTOLD),
        ("prefix", "/api/", Outcome.MISSES),
        ("exact", "/users/ada/", Outcome.UNTOLD),
        ("exact", "/users", Outcome.UNTOLD),
        ("exact", "/api/test", Outcome.MISSES),
        ("glob", "/users/*/", Outcome.UNTOLD),
        ("glob", "/api/*", Outcome.MISSES),
        ("regex", "/api/.*", Outcome.UNTOLD),
        ("any", "", Outcome.COUNTS),
        ("view", "user", Outcome.COUNTS),
        ("view", "other", Outcome.MISSES),
    ],
)
def test_of_a_path_that_is_known_in_part(kind, value, outcome):
    facts = RequestFacts("GET", "/users/<name ~3q2A7wBB>/", "203.0.113.9", route="user")
    assert said(facts, unknown=[Part.PATH], path=path(kind, value))[0] is outcome


paths = st.sampled_from(["/", "/api/test", "/api/", "/x/y", "/users/ada/"])
patterns = st.sampled_from(
    [("any", ""), ("exact", "/api/test"), ("prefix", "/api"), ("glob", "/*/test"),
     ("glob", "/users/**"), ("regex", "/[ax].*"), ("view", "v")]
)  # fmt: skip
rules = st.builds(
    rule,
    id=st.integers(1, 10**6),
    path=patterns.map(lambda pair: path(*pair)),
    methods=st.sampled_from([frozenset(), frozenset({"GET"}), frozenset({"POST"})]),
    host=st.sampled_from(["", "*.x.org", "a.x.org"]),
    audience=st.sampled_from(list(Audience)),
    groups=st.sampled_from([frozenset(), frozenset({"7"})]),
    networks=st.sampled_from([(), ("10.0.0.0/8",), ("203.0.113.0/24",)]),
    networks_excluded=st.sampled_from([(), ("203.0.113.9/32",)]),
    active_from_us=st.sampled_from([None, NOW_US, NOW_US + 1]),
    active_until_us=st.sampled_from([None, NOW_US, NOW_US + 1]),
    mode=st.sampled_from([Mode.SHADOW, Mode.ENFORCE]),
)
requests = st.builds(
    RequestFacts,
    method=st.sampled_from(["GET", "POST"]),
    path=paths,
    address=st.sampled_from(["10.0.0.1", "203.0.113.9", "unknown"]),
    host=st.sampled_from(["", "a.x.org", "x.org"]),
    route=st.sampled_from(["", "v"]),
)
users = st.sampled_from([ANONYMOUS, USER, UserFacts("6", True), UserFacts("7", True, USER.groups)])


@given(st.lists(rules, max_size=8, unique_by=lambda one: one.id), requests, users)
def test_what_is_told_is_what_is_decided(all_rules, facts, user):
    index = compile_ruleset(Ruleset(1, tuple(all_rules)))
    decided = {one.rule.id for one in index.candidates(facts, NOW_US) if applies_to(one.rule, user)}
    found = [consider(one, facts, user, NOW_US) for one in index.rules]
    assert {one.rule.id for one in found if one.outcome is Outcome.COUNTS} == decided
    assert all(bool(one.misses) == (one.outcome is Outcome.MISSES) for one in found)


@given(st.data())
def test_what_is_known_in_part_never_contradicts_what_is_known_whole(data):
    one, facts, user = data.draw(rules), data.draw(requests), data.draw(users)
    unknown = data.draw(st.sets(st.sampled_from([Part.ADDRESS, Part.USER, Part.HOST])))
    compiled = compile_rule(one)
    whole = consider(compiled, facts, user, NOW_US)
    part = consider(compiled, facts, user, NOW_US, unknown=frozenset(unknown))
    assert part.outcome in (whole.outcome, Outcome.UNTOLD)


PROXIES = (ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "expected"),
    [
        ("203.0.113.9", "", (), ["203.0.113.9, and no proxy is trusted"]),
        ("203.0.113.9", "1.1.1.1", PROXIES, ["no trusted proxy: that is", "1 entry left"]),
        ("10.0.0.1", "", PROXIES, ["a trusted proxy, but there is no X-Forwarded-For"]),
        (
            "10.0.0.1",
            "9.9.9.9, 203.0.113.9:4711, 10.0.0.2",
            PROXIES,
            ["is read, from the right", "10.0.0.2: a trusted proxy. Further left",
             "203.0.113.9: no trusted proxy, so it is the client", "1 entry left of it"],
        ),
        ("10.0.0.1", "x y, 10.0.0.2", PROXIES, ["10.0.0.2: a trusted", "x y: no address"]),
        ("10.0.0.1", "10.0.0.3", PROXIES, ["10.0.0.3: a trusted proxy, and nothing is left of it"]),
        ("", "", (), ["no address (a Unix socket)"]),
        ("2001:db8::1", "", (), ["An IPv6 client counts with its network: 2001:db8::/64."]),
    ],
)  # fmt: skip
def test_how_an_address_was_found(peer, forwarded, proxies, expected):
    told = steps(derivation(peer, forwarded, proxies), bool(proxies))
    at = 0
    for text in expected:
        found = [place for place, step in enumerate(told) if text in step]
        assert found, (text, told)
        assert found[0] >= at
        at = found[0]


hops = st.sampled_from(["10.0.0.1", "203.0.113.9", "x", "", "::1", "[2001:db8::2]:443", "10.1.1.1"])


@given(hops, st.lists(hops, max_size=40).map(",".join), st.sampled_from([(), PROXIES]))
def test_the_steps_lead_to_the_address_that_counts(peer, forwarded, proxies):
    found = derivation(peer, forwarded, proxies)
    assert found.address == client_address(peer, forwarded, proxies)
    assert found.unread >= 0
    assert steps(found, bool(proxies))
