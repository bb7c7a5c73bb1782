"""Where counters stand, in words; and read twice where the first time had no answer."""

from __future__ import annotations

import pytest

from apps.ratelimits.standings import Bar, patiently, span
from apps.ratelimits.storage.errors import Unavailable


def bar(**changes) -> Bar:
    values = {
        "used": 57, "capacity": 100, "allowed": True, "wait_s": 0, "full_s": 26, "blocked": False,
        "unit": "used",
    }  # fmt: skip
    return Bar(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "text", "percent"),
    [
        ({}, "57 of 100 used; all free again in 26 s", 57),
        ({"used": 0, "full_s": 0}, "0 of 100 used", 0),
        ({"used": 1, "capacity": 100_000}, "1 of 100,000 used; all free again in 26 s", 1),
        (
            {"used": 100, "allowed": False, "wait_s": 3},
            "100 of 100 used; the next in 3 s; all free again in 26 s",
            100,
        ),
        (
            {"used": 100, "allowed": False, "wait_s": 300, "blocked": True},
            "100 of 100 used; denied for 5 min more",
            100,
        ),
    ],
)
def test_a_bar_in_words(changes, text, percent):
    one = bar(**changes)
    assert (one.text, one.percent) == (text, percent)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (121, "3 min"), (7_200, "2 h"), (7_500, "2 h 5 min"),
     (47 * 3_600, "47 h"), (48 * 3_600, "2 days"), (49 * 3_600, "3 days")],
)  # fmt: skip
def test_a_span_in_words(seconds, text):
    assert span(seconds) == text


def test_what_changes_nothing_is_asked_twice_and_no_more():
    asked = []

    def ask(answers):
        asked.append(1)
        if len(asked) < answers:
            raise Unavailable("late")
        return "there"

    assert patiently(lambda: ask(2)) == "there"
    asked.clear()
    with pytest.raises(Unavailable):
        patiently(lambda: ask(3))
    assert len(asked) == 2
