"""Whom a limit counts, and that no two are taken for one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.facts import ANONYMOUS, RequestFacts, UserFacts
from apps.ratelimits.policy.identity import digest, identity_parts
from apps.ratelimits.policy.rules import CountedBy

KEY = b"k" * 32
FACTS = RequestFacts("GET", "/", "203.0.113.9")
MEMBER = UserFacts("7")
PARTS = st.lists(st.text(max_size=8), max_size=4)


@pytest.mark.parametrize(
    ("counted_by", "user", "expected"),
    [
        (CountedBy.EVERYONE, MEMBER, ("everyone", "")),
        (CountedBy.ADDRESS, MEMBER, ("address", "203.0.113.9")),
        (CountedBy.USER, MEMBER, ("user", "7")),
        (CountedBy.USER_OR_ADDRESS, MEMBER, ("user", "7")),
        (CountedBy.USER, ANONYMOUS, ("address", "203.0.113.9")),
        (CountedBy.USER_OR_ADDRESS, ANONYMOUS, ("address", "203.0.113.9")),
    ],
)
def test_leaving_the_cookie_out_is_no_way_around(counted_by, user, expected):
    assert identity_parts(counted_by, FACTS, user) == expected


def test_a_user_named_like_an_address_is_not_that_address():
    user = identity_parts(CountedBy.USER, FACTS, UserFacts(FACTS.address))
    address = identity_parts(CountedBy.ADDRESS, FACTS, ANONYMOUS)
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
def test_a_digest_is_22_characters_that_are_safe_in_a_key(parts):
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", digest(KEY, *parts))


def test_a_digest_is_the_same_in_every_process():
    assert digest(KEY, "user", "7") == digest(bytes(KEY), "user", "7") == "CBPvxi4LDNdjvgnbp7eWxQ"


def test_whoever_does_not_know_the_key_cannot_guess():
    digests = {digest(key, "address", "203.0.113.9") for key in (KEY, b"other", b"K" * 32)}
    assert len(digests) == 3


def test_a_long_key_is_accepted():
    assert len(digest(b"k" * 1_000, "a")) == 22
