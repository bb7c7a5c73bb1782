"""One answer against all that is promised."""

import json

import pytest

from loadtests.answers import Answer, Answers
from loadtests.edits import Edit
from loadtests.promises import Who, promises

ROWS = [
    {"name": "per-address", "quota": 3, "counted_by": "address", "algorithm": "sliding_log"},
    {"name": "together", "quota": 1_000, "counted_by": "everyone"},
]
WHO = Who("10.0.0.1")
POLICY = '"per-address";q=3;w=60, "together";q=1000;w=60'


@pytest.fixture
def answers():
    return Answers(promises(ROWS), skew_s=0.0)


def admitted(number, remaining, *, standings=None, **more):
    at_s = 1_700_000_000.0 + number
    said = f'"per-address";r={remaining}, "together";r=900' if standings is None else standings
    return Answer("GET", "/api/test", at_s, at_s + 0.01, 200, POLICY, said, **more)


def denied(number, *names):
    at_s = 1_700_000_000.0 + number
    body = json.dumps({"violated-policies": list(names)}).encode()
    return Answer("GET", "/api/test", at_s, at_s + 0.01, 429, POLICY, "", body)


def test_what_is_promised_is_no_news(answers):
    for number in range(3):
        assert answers.answered(WHO, admitted(number, 2 - number)) == ""
    assert answers.answered(WHO, denied(4, "per-address")) == ""
    record = answers.taken()
    record.judge_shared(answers.promises, 0.0)
    assert record.wrong == {}
    assert (record.tally("per-address").admitted, record.tally("per-address").denied) == (3, 1)
    assert record.tally("together").admitted == 3


def test_a_denial_that_is_not_due(answers):
    answers.answered(WHO, admitted(0, 2))
    assert "was due to be admitted" in answers.answered(WHO, denied(1, "per-address"))
    assert list(answers.record.wrong) == ["per-address denied unduly"]


def test_a_denial_is_due_where_one_of_its_limits_is_used_up(answers):
    for number in range(3):
        answers.answered(WHO, admitted(number, 2 - number))
    assert answers.answered(WHO, denied(4, "together", "per-address")) == ""


def test_a_request_too_many(answers):
    for number in range(3):
        answers.answered(WHO, admitted(number, 2 - number))
    assert "3 are promised at most" in answers.answered(WHO, admitted(4, 0))


def test_the_others_have_their_own(answers):
    for number in range(3):
        answers.answered(WHO, admitted(number, 2 - number))
    assert answers.answered(Who("10.0.0.2"), admitted(4, 2)) == ""


def test_a_limit_that_did_not_count(answers):
    text = answers.answered(WHO, admitted(0, 2, standings='"per-address";r=2'))
    assert text == "together did not count GET /api/test"


def test_a_denial_that_names_no_limit(answers):
    assert "names no limit" in answers.answered(WHO, denied(0))


def test_the_end_tells_what_everyone_shares(answers):
    answers.answered(WHO, denied(0, "together"))
    assert answers.record.wrong == {}
    record = answers.taken()
    record.judge_shared(answers.promises, 0.0)
    assert list(record.wrong) == ["together, everyone"]


def test_an_answer_that_did_not_come_may_have_been_counted(answers):
    answers.answered(WHO, Answer("GET", "/api/test", 1_700_000_000.0, 1_700_000_001.0, 503))
    for number in range(2, 4):
        assert answers.answered(WHO, admitted(number, 3 - number - 0)) == ""
    assert answers.answered(WHO, denied(5, "per-address")) == ""


def test_without_a_file_of_limits_only_too_much_is_seen():
    answers = Answers({}, skew_s=0.0)
    assert answers.answered(WHO, denied(0, "per-address")) == ""
    said = [answers.answered(WHO, admitted(number / 100, 2)) for number in range(8)]
    # Two windows' quotas, which any algorithm may admit across an edge, and not one more.
    assert [bool(text) for text in said] == [False] * 6 + [True] * 2


def test_the_quota_of_a_limit_that_staff_edit():
    rows = [*ROWS, {"name": "edited", "quota": 100, "counted_by": "everyone"}]
    answers = Answers(promises(rows), skew_s=0.0, edited=["edited"])
    said = '"per-address";r=2, "together";r=9, "edited";r=5'
    for number, quota in ((0, 100), (2, 200)):
        answer = Answer(
            "GET", "/api/test", 1_700_000_000.0 + number, 1_700_000_000.0 + number, 200,
            f'"edited";q={quota};w=60', said if not number else said.replace("r=2", "r=1"),
        )  # fmt: skip
        assert answers.answered(WHO, answer) == ""
    record = answers.taken()
    record.judge_shared(answers.promises, 0.0)
    assert list(record.wrong) == ["edited, edited"]
    # Had somebody saved that, it would be right.
    answers.edit("edited", Edit(200, 1.0, 2.0))
    assert "edited" in answers.record.seen
