"""A file of limits as `ratelimit export` writes it: what is promised, and to whom."""

import json

import pytest

from loadtests.promises import Unreadable, Who, promises, read

ROW = {"name": "api", "quota": 100, "counted_by": "address", "path_kind": "prefix", "path": "/api/"}


def one(**row):
    (found,) = promises([{**ROW, **row}]).values()
    return found


def test_a_limit_with_its_defaults():
    found = one()
    assert (found.algorithm, found.quota, found.window_s, found.burst) == (
        "token_bucket",
        100,
        60,
        100,
    )
    assert found.exact
    assert found.checked


@pytest.mark.parametrize(("unit", "seconds"), [("seconds", 2), ("minutes", 120), ("hours", 7_200)])
def test_windows(unit, seconds):
    assert one(window_amount=2, window_unit=unit).window_s == seconds


def test_a_request_that_costs_more_uses_the_quota_up_sooner():
    assert (one(cost=5).quota, one(cost=5, burst=50).burst) == (20, 10)


def test_only_what_is_enforced_is_promised():
    rows = [{**ROW, "mode": mode} for mode in ("shadow", "canary", "off", "draft")]
    assert promises([*rows, {**ROW, "path_kind": "named"}]) == {}


@pytest.mark.parametrize(
    "row", [{"counts": "status"}, {"charge_denied": True}, {"block_amount": 5}, {"lease": 10}]
)
def test_where_denials_depend_on_more_they_are_not_judged(row):
    assert not one(**row).exact


@pytest.mark.parametrize("row", [{"algorithm": "concurrency"}, {"counted_by": "session"}])
def test_what_cannot_be_seen_from_outside(row):
    assert not one(**row).checked


def test_which_requests_a_limit_certainly_counts():
    who, user = Who("10.0.0.1"), Who("10.0.0.1", user="7")
    assert one().expected_of(who, "GET", "/api/test")
    assert not one().expected_of(who, "GET", "/admin/")
    assert not one(methods="POST").expected_of(who, "GET", "/api/test")
    assert not one(audience="signed_in").expected_of(who, "GET", "/api/test")
    assert one(audience="signed_in").expected_of(user, "GET", "/api/test")
    assert not one(audience="staff").expected_of(user, "GET", "/api/test")
    assert not one(path_kind="exact", path="/api/").expected_of(who, "GET", "/api/test")
    for narrowed in ({"host": "a.test"}, {"groups": "x"}, {"path_kind": "regex"}):
        assert not one(**narrowed).expected_of(who, "GET", "/api/test")


def test_by_what_somebody_counts():
    who = Who("10.0.0.1", user="7")
    assert who.identity(("user",)) == ("user 7", True)
    assert who.identity(("everyone",)) == ("everyone", False)
    # What a request does not have counts by its address.
    assert who.identity(("header",)) == ("address 10.0.0.1", True)
    assert Who("the load's", own_address=False).identity(("address",)) == (
        "address the load's",
        False,
    )
    assert who.identity(("address", "user")) == ("address 10.0.0.1, user 7", True)


def test_a_file_that_cannot_be_read_says_what_to_do(tmp_path):
    path = tmp_path / "limits.json"
    with pytest.raises(Unreadable, match="No such file"):
        read(path)
    for content, what in (
        ("{", "Expecting"),
        ('{"a": 1}', "not a list"),
        ('[{"a": 1}]', "limit 1"),
    ):
        path.write_text(content)
        with pytest.raises(Unreadable, match=f"{what}.*ratelimit export"):
            read(path)
    path.write_text(json.dumps([ROW]))
    assert list(read(path)) == ["api"]
