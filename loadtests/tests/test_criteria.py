"""The guide's criteria as an exit code."""

from dataclasses import replace

import pytest

from loadtests.criteria import Criteria, Exit, Load, Step, judge
from loadtests.record import Record

LOAD = Load(
    requests=10_000,
    errors=9,
    all_requests=10_000,
    p50_ms=10,
    p99_ms=99,
    longest_ms=300,
    requests_per_s=100,
    users=100,
)


def code(record=None, steps=(), **changes):
    return judge(replace(LOAD, **changes), record or Record(), Criteria(), steps).exit_code


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, Exit.MET),
        ({"p99_ms": 100}, Exit.MISSED),
        ({"errors": 10}, Exit.MISSED),
        ({"requests": 0, "all_requests": 0, "errors": 0}, Exit.MISSED),
        ({"requests": 0}, Exit.MISSED),
    ],
)
def test_the_guides_criteria(changes, wanted):
    assert code(**changes) == wanted


def test_one_broken_promise_fails_however_few_errors_there_are():
    record = Record()
    record.is_wrong("limit denied unduly", "an example")
    assert code(record, errors=1) == Exit.MISSED


def test_an_overloaded_generator_measures_itself():
    record = Record(lags_ms={1: 98, 80: 2})
    assert code(record, p99_ms=500) == Exit.INVALID
    assert code(Record(lags_ms={1: 990, 80: 2})) == Exit.MET


def test_errors_are_named_the_most_frequent_first():
    kinds = tuple((f"GET /api/test: error {number}", 9 - number) for number in range(7))
    lines = judge(replace(LOAD, kinds=kinds), Record(), Criteria()).lines
    named = [line for line in lines if line.startswith("error: ")]
    assert named == [f"error: GET /api/test: error {number} ({9 - number})" for number in range(5)]


def test_users_that_could_not_be_are_no_load():
    record = Record()
    record.note("not enough sessions in the file of accounts")
    assert code(record) == Exit.INVALID


def test_steps_ask_how_much_is_borne():
    steps = [Step(100, 20, 180, 0.0), Step(200, 99, 350, 0.0), Step(300, 150, 400, 0.0)]
    verdict = judge(replace(LOAD, p99_ms=150), Record(), Criteria(), steps)
    assert verdict.exit_code == Exit.MET
    assert "the most users that met the criteria: 200" in verdict.lines
    assert code(steps=[Step(100, 200, 180, 0.0)]) == Exit.MISSED
    # Errors are too much, too.
    assert code(steps=[Step(100, 20, 180, 0.2)]) == Exit.MISSED


def test_the_verdict_says_why():
    verdict = judge(replace(LOAD, p99_ms=120, errors=50), Record(), Criteria())
    assert verdict.word == "MISSED"
    assert verdict.reasons == ("p99 120 ms is not below 100", "errors 0.500 % are not below 0.1 %")
