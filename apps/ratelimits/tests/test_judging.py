"""What cannot be told is said, and never guessed."""

from __future__ import annotations

import pytest

from apps.ratelimits.policy.judging import Counted, Judge, Untold
from apps.ratelimits.policy.rules import (
    Audience,
    CountedBy,
    Override,
    OverrideAction,
    PathKind,
    PathPattern,
)
from apps.ratelimits.policy.traffic import What, Who

from .limiters import rule

WHAT = What("GET", "/users/{d1}", "example.com", "user", (("name", "n"),))
ANONYMOUS = Who("a", "203.0.113.0/24", "", False, (), "", (), ())
SOMEBODY = Who("a", "203.0.113.0/24", None, False, None, None, (), ())
ADA = Who("a", "203.0.113.0/24", "u", True, None, None, (("x-key", "k"),), ("x-key",))


def told(what=WHAT, who=ANONYMOUS, **changes):
    judge = Judge(rule(**changes), lambda path: "/users/{d1}", now_us=1)
    found = judge.of(what, who)
    return found.parts if isinstance(found, Counted) else found


def exception(target: str, value: str, action=OverrideAction.UNLIMITED, **changes):
    return (Override(target, value, action, **changes),)


BY = {"counted_by": (CountedBy.USER,)}


@pytest.mark.parametrize(
    ("who", "what", "changes", "expected"),
    [
        (ANONYMOUS, WHAT, {}, ("address", "a")),
        (ANONYMOUS, WHAT, {"methods": frozenset({"POST"})}, None),
        (ANONYMOUS, WHAT, {"path": PathPattern(PathKind.GLOB, "/users/a*")}, Untold.PATH),
        (ANONYMOUS, WHAT._replace(route=None), {"path": PathPattern(PathKind.VIEW, "user")},
         Untold.VIEW),
        (ANONYMOUS, WHAT._replace(route=None),
         {"counted_by": (CountedBy.VIEW_ARGUMENT,), "view_argument": "name"}, Untold.VIEW),
        (ANONYMOUS, WHAT, {"counted_by": (CountedBy.VIEW_ARGUMENT,), "view_argument": "name"},
         ("argument name", "n")),
        (ANONYMOUS, WHAT._replace(host="{d}"), {"host": "*.example.com"}, Untold.HOST),
        (ANONYMOUS, WHAT._replace(host="{d}"), {}, ("address", "a")),
        (ANONYMOUS, WHAT, {"host": "*.com"}, ("address", "a")),
        (ANONYMOUS, WHAT, {"networks": ("203.0.113.0/25",)}, Untold.NETWORK),
        (ANONYMOUS, WHAT, {"networks": ("203.0.0.0/16",)}, ("address", "a")),
        (ANONYMOUS, WHAT, {"networks": ("198.51.100.7/32",)}, None),
        (ANONYMOUS, WHAT, {"networks_excluded": ("203.0.113.7/32",)}, Untold.NETWORK),
        (SOMEBODY, WHAT, BY, Untold.USER),
        (ANONYMOUS, WHAT, BY, ("address", "a")),
        (ADA, WHAT, BY, ("user", "u")),
        (SOMEBODY, WHAT, {"audience": Audience.STAFF}, Untold.USER),
        (ADA, WHAT, {"audience": Audience.STAFF}, ("address", "a")),
        (ADA, WHAT, {"audience": Audience.ANONYMOUS}, None),
        (ADA, WHAT, {"groups": frozenset({"1"})}, Untold.GROUPS),
        (ANONYMOUS, WHAT, {"groups": frozenset({"1"})}, None),
        # Whom the audience leaves out is out, whatever their groups.
        (ADA, WHAT, {"groups": frozenset({"1"}), "audience": Audience.ANONYMOUS}, None),
        (ADA, WHAT, {"counted_by": (CountedBy.SESSION,)}, Untold.SESSION),
        (ANONYMOUS, WHAT, {"counted_by": (CountedBy.HEADER,), "header": "x-key"}, Untold.KEY),
        (ADA, WHAT, {"counted_by": (CountedBy.HEADER,), "header": "x-key"},
         ("header x-key", "k")),
        (SOMEBODY, WHAT, {"overrides": exception("user", "u")}, Untold.USER),
        (ADA, WHAT, {"overrides": exception("group", "1")}, Untold.GROUPS),
        (ADA, WHAT, {"overrides": exception("network", "203.0.113.9/32")}, Untold.NETWORK),
        (ANONYMOUS, WHAT, {"overrides": exception("key", "x-key:k")}, Untold.KEY),
        (ADA, WHAT, {"overrides": exception("key", "x-key:k")}, ("address", "a")),
    ],
)  # fmt: skip
def test_whom_it_counts(who, what, changes, expected):
    assert told(what, who, **changes) == expected


def test_an_exception_changes_the_rate():
    for action, check in (
        (OverrideAction.UNLIMITED, lambda counted: counted.rate is None),
        (OverrideAction.BLOCKED, lambda counted: counted.blocked),
        (OverrideAction.QUOTA, lambda counted: counted.rate.quota == 77),
    ):
        own = exception("network", "203.0.0.0/16", action, quota=77)
        judge = Judge(rule(overrides=own), str, now_us=1)
        assert check(judge.of(WHAT, ANONYMOUS)), action
    over = exception("network", "203.0.0.0/16", OverrideAction.UNLIMITED, until_us=1)
    assert Judge(rule(overrides=over), str, now_us=1).of(WHAT, ANONYMOUS).rate is not None


def test_it_is_tried_as_if_it_were_active_and_enforced():
    from apps.ratelimits.policy.rules import Mode

    assert told(active_from_us=2**50, mode=Mode.SHADOW) == ("address", "a")


def test_a_host_that_a_wildcard_let_through_is_known_by_its_digest():
    judge = Judge(rule(host="ada.test"), str, lambda host: "{ada}", now_us=1)
    assert isinstance(judge.of(WHAT._replace(host="{ada}"), ANONYMOUS), Counted)
    assert judge.of(WHAT._replace(host="{bob}"), ANONYMOUS) is None
