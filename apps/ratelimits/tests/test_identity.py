"""Whom a limit counts, and that no two are taken for one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.facts import ANONYMOUS, RequestFacts, UserFacts
from apps.ratelimits.policy.identity import DIGEST_CHARS, Digests, digest, identity_parts
from apps.ratelimits.policy.rules import Algorithm, CountedBy, Rate, Rule

KEY = b"k" * 32
FACTS = RequestFacts("GET", "/", "203.0.113.9")
MEMBER = UserFacts("7")
PARTS = st.lists(st.text(max_size=8), max_size=4)


EVERYTHING = UserFacts("7", session="abc", keys=(("x-api-key", "acme"), ("x-other", "b")))
ARGUED = RequestFacts("GET", "/", "203.0.113.9", arguments=(("slug", "x"), ("pk", "5")))
ADDRESS = ("address", "203.0.113.9")


def counting(*parts: CountedBy) -> Rule:
    rate = Rate(Algorithm.FIXED_WINDOW, 1, 1_000_000, 1)
    return Rule(
        id=1, name="one", rate=rate, counted_by=parts, header="x-api-key", view_argument="pk"
    )


@pytest.mark.parametrize(
    ("counted_by", "validated"),
    [
        (CountedBy.EVERYONE, ("everyone", "")),
        (CountedBy.ADDRESS, ADDRESS),
        (CountedBy.USER, ("user", "7")),
        (CountedBy.SESSION, ("session", "abc")),
        (CountedBy.HEADER, ("header x-api-key", "acme")),
        (CountedBy.VIEW_ARGUMENT, ("argument pk", "5")),
    ],
)
def test_what_was_not_validated_counts_by_address(counted_by, validated):
    assert identity_parts(counting(counted_by), ARGUED, EVERYTHING) == validated
    lacking = identity_parts(counting(counted_by), FACTS, ANONYMOUS)
    assert lacking == (validated if counted_by is CountedBy.EVERYONE else ADDRESS)


def test_a_combination_is_all_of_its_parts():
    both = counting(CountedBy.ADDRESS, CountedBy.USER)
    assert identity_parts(both, FACTS, MEMBER) == (*ADDRESS, "user", "7")
    assert identity_parts(both, FACTS, ANONYMOUS) == ADDRESS
    three = counting(CountedBy.USER, CountedBy.HEADER, CountedBy.VIEW_ARGUMENT)
    expected = ("user", "7", "header x-api-key", "acme", "argument pk", "5")
    assert identity_parts(three, ARGUED, EVERYTHING) == expected


def test_a_user_named_like_an_address_is_not_that_address():
    user = identity_parts(counting(CountedBy.USER), FACTS, UserFacts(FACTS.address))
    address = identity_parts(counting(CountedBy.ADDRESS), FACTS, ANONYMOUS)
    assert digest(KEY, *user) != digest(KEY, *address)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b:c"), ("a:b", "c")),
        (("ab",), ("a", "b")),
        (("a", ""), ("a",)),
        (("", "a"), ("a", "")),
        ((), ("",)),
        (("a",), ("A",)),
        (("\u00e9",), ("e\u0301",)),
        (("\ud800",), ("\udfff",)),
        (("a\x00\x00\x00\x01b",), ("a", "b")),
    ],
)
def test_different_parts_have_different_digests(one, other):
    assert digest(KEY, *one) != digest(KEY, *other)


@given(PARTS, PARTS)
def test_digests_are_equal_only_where_the_parts_are(one, other):
    assert (digest(KEY, *one) == digest(KEY, *other)) == (one == other)


@given(st.lists(st.text(st.characters(codec=None), max_size=50), max_size=4))
def test_a_digest_is_20_characters_that_are_safe_in_a_key(parts):
    assert re.fullmatch(r"[A-Za-z0-9_-]{20}", digest(KEY, *parts))


def test_a_digest_is_the_same_in_every_process():
    assert digest(KEY, "user", "7") == digest(bytes(KEY), "user", "7") == "jfU05NgC4ICIFA9n_Ngn"


def test_whoever_does_not_know_the_key_cannot_guess():
    digests = {digest(key, "address", "203.0.113.9") for key in (KEY, b"other", b"K" * 32)}
    assert len(digests) == 3


def test_a_long_key_is_accepted():
    assert len(digest(b"k" * 1_000, "a")) == DIGEST_CHARS


def test_parts_are_never_confused():
    assert digest(b"k", "a", "b:c") != digest(b"k", "a:b", "c")
    assert digest(b"k", "ab") != digest(b"k", "a", "b")
    assert digest(b"k", "a") != digest(b"other", "a")
    assert len(digest(b"k", "x" * 1_000_000)) == len(digest(b"k", "\ud800")) == DIGEST_CHARS


def test_remembered_digests_are_the_same_and_bounded(monkeypatch):
    monkeypatch.setattr(Digests, "MAX_REMEMBERED", 3)
    digests = Digests(b"k")
    for name in "abcdeabcde":
        assert digests.of(("name", name)) == digest(b"k", "name", name)
        assert len(digests._known) <= 3
    digests.of(("name", "x" * 1_000))
    assert all(len(parts[1]) < 1_000 for parts in digests._known)
