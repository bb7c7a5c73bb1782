"""What a response says, read back as a client reads it."""

from __future__ import annotations

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.algorithms import Standing
from apps.ratelimits.policy.decision import ALLOWED, Verdict, decide_all
from apps.ratelimits.policy.headers import fields, problem, retry_after_s
from apps.ratelimits.policy.rules import MAX_QUOTA, MAX_WINDOW_US, Algorithm, Mode, Rate, Rule

SECOND_US = 1_000_000


def verdict(
    name="one",
    allowed=True,
    *,
    algorithm=Algorithm.FIXED_WINDOW,
    quota=10,
    window_us=60 * SECOND_US,
    remaining=5,
    retry_us=0,
    steady_us=0,
    **rule,
):
    rate = Rate(algorithm, quota, window_us, quota)
    standing = Standing(remaining, retry_us, steady_us, steady_us)
    return Verdict(Rule(1, name, rate, **rule), allowed, standing)


def read(decision):
    """Both fields as a parser of RFC 9651 gives them."""
    sent = fields(decision)
    return tuple(
        http_sf.parse(sent[name].encode("ascii"), tltype="list")
        for name in ("RateLimit-Policy", "RateLimit")
    )


def test_the_fields_are_lists_of_strings_with_parameters():
    decision = decide_all(
        [
            verdict("per-minute", remaining=7, steady_us=30 * SECOND_US),
            verdict("per_day", quota=1_000, window_us=86_400 * SECOND_US, remaining=0),
        ]
    )
    assert read(decision) == (
        [("per-minute", {"q": 10, "w": 60}), ("per_day", {"q": 1_000, "w": 86_400})],
        [("per-minute", {"r": 7, "t": 30}), ("per_day", {"r": 0})],
    )
    assert "Retry-After" not in fields(decision)


@given(
    st.from_regex(r"\A[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?\Z"),
    st.integers(1, MAX_QUOTA),
    st.integers(1, 366 * 86_400).map(lambda s: s * SECOND_US) | st.integers(1, MAX_WINDOW_US),
    st.integers(0, MAX_QUOTA),
    st.integers(0, MAX_WINDOW_US),
)
def test_every_name_and_number_is_read_back(name, quota, window_us, remaining, steady_us):
    stood = {"quota": quota, "remaining": remaining, "steady_us": steady_us}
    policy, standing = read(decide_all([verdict(name, window_us=window_us, **stood)]))
    assert policy[0][0] == standing[0][0] == name
    assert policy[0][1]["q"] == quota
    whole = window_us % SECOND_US == 0
    assert policy[0][1].get("w") == (window_us // SECOND_US if whole else None)
    assert standing[0][1]["r"] == remaining
    assert standing[0][1].get("t", 0) == steady_us // SECOND_US


@pytest.mark.parametrize("window_us", [1, 999_999, 1_500_000])
def test_a_window_that_is_no_whole_number_of_seconds_is_not_told(window_us):
    assert "w" not in read(decide_all([verdict(window_us=window_us)]))[0][0][1]


def test_the_lease_of_a_slot_is_no_window():
    decision = decide_all([verdict(algorithm=Algorithm.CONCURRENCY)])
    assert read(decision)[0] == [("one", {"q": 10})]


def test_shadows_and_requests_without_a_limit_have_no_fields():
    assert fields(ALLOWED) == {}
    assert fields(decide_all([verdict(allowed=False, mode=Mode.SHADOW)])) == {}
    both = decide_all([verdict("shadow", False, mode=Mode.SHADOW), verdict("real")])
    assert [name for name, _ in read(both)[1]] == ["real"]


@pytest.mark.parametrize(
    ("retry_us", "seconds"),
    [
        (0, 1),
        (1, 1),
        (999_999, 1),
        (1_000_000, 1),
        (1_000_001, 2),
        (59_000_001, 60),
        (10**18, 366 * 86_400),
    ],
)
def test_the_wait_is_rounded_up(retry_us, seconds):
    decision = decide_all([verdict(allowed=False, remaining=0, retry_us=retry_us)])
    assert retry_after_s(decision) == seconds
    assert fields(decision)["Retry-After"] == str(seconds)


def test_the_wait_is_that_of_the_longest_denial():
    decision = decide_all(
        [verdict("a", False, retry_us=SECOND_US), verdict("b", False, retry_us=5 * SECOND_US)]
    )
    assert fields(decision)["Retry-After"] == "5"


def test_a_denial_is_a_problem_with_the_limits_that_said_no():
    decision = decide_all(
        [
            verdict("a", False, retry_us=1_500_000),
            verdict("b"),
            verdict("c", False, retry_us=SECOND_US),
            verdict("d", False, mode=Mode.SHADOW, message="Not said."),
        ]
    )
    assert problem(decision) == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Too many requests",
        "status": 429,
        "detail": "Try again in 2 s.",
        "violated-policies": ["a", "c"],
    }


def test_the_messages_of_the_limits_that_said_no_are_the_detail():
    decision = decide_all(
        [
            verdict("a", False, message="Slow down."),
            verdict("b", True, message="Not said."),
            verdict("c", False),
            verdict("d", False, message="Come back at noon."),
        ]
    )
    assert problem(decision)["detail"] == "Slow down. Come back at noon."


def test_what_cannot_be_counted_is_reduced_capacity():
    decision = decide_all([verdict("a", False, retry_us=1, message="Slow down.")], unavailable=True)
    assert problem(decision) == {
        "type": "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
        "title": "Temporarily reduced capacity",
        "status": 503,
        "detail": "Requests cannot be counted right now. Try again in 1 s.",
    }
    assert fields(decision)["Retry-After"] == "1"


def test_a_block_is_a_denial_like_any_other():
    decision = decide_all([verdict("a", False, retry_us=1)], blocked=True)
    assert problem(decision)["status"] == 429
