"""What the list of limits says of their being in force."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from django.utils import timezone

from apps.ratelimits.admin.in_force import REMEMBERED_S, SHORT_S, told
from apps.ratelimits.models import RateLimit
from apps.ratelimits.storage.failures import Kind, Outage
from apps.ratelimits.storage.processes import ProcessStatus

NEWEST = 1_700_000_000_000_000
NOW_S = 1_800_000_000.0
ONE = ProcessStatus("one", 7, "ab12", 1_000, NEWEST)
TWO, THREE = replace(ONE, process="two", pid=8), replace(ONE, process="three", pid=9)
PAGE = "/admin/ratelimits/ratelimit/"


@pytest.fixture(autouse=True)
def noon(monkeypatch):
    """Of a day in UTC, so that times of today are told without their date."""
    monkeypatch.setattr(timezone, "localdate", lambda: timezone.datetime(2027, 1, 15).date())


def failing(status, decided, kind=Kind.TIMEOUT, since_s=NOW_S, until_s=None):
    return replace(status, outage=Outage(kind, since_s, until_s, decided))


def test_all_is_well_in_one_quiet_line():
    said = told([ONE, TWO, THREE], NEWEST, NOW_S)
    assert said.level == "fine"
    assert said.text == "In force in 3 processes, as edited at 14 Nov 2023, 22:13:20."


def test_limits_that_were_never_edited_have_no_time():
    said = told([replace(ONE, version=0)], 0, NOW_S)
    assert said.text == "In force in 1 process."


def test_redis_failing_is_told_with_what_it_costs():
    alive = [failing(ONE, 1_200), failing(TWO, 4, Kind.OOM, NOW_S + 60), THREE]
    said = told(alive, NEWEST, NOW_S + 100)
    assert said.level == "failing"
    assert said.text == (
        "Redis has been failing since 08:00:00 (no answer in time, out of memory): 1,204 requests "
        "were decided by each limit's own policy; 2 of 3 processes affected."
    )
    assert said.exact == "2027-01-15 08:00:00+00:00"


def test_what_happened_is_told_for_an_hour():
    alive = [failing(ONE, 1_000, until_s=NOW_S + 63), failing(TWO, 204, until_s=NOW_S + 60)]
    said = told(alive, NEWEST, NOW_S + 100)
    assert said.level == "past"
    assert said.text == (
        "Redis failed from 08:00:00 to 08:01:03 (no answer in time): 1,204 requests were decided "
        "by each limit's own policy. In force in 2 processes, as edited at 14 Nov 2023, 22:13:20."
    )
    assert told(alive, NEWEST, NOW_S + 63 + REMEMBERED_S).level == "fine"


def test_a_failure_that_cost_no_request_anything_is_not_told():
    assert told([failing(ONE, 0, until_s=NOW_S)], NEWEST, NOW_S).level == "fine"
    assert told([failing(ONE, 0)], NEWEST, NOW_S + SHORT_S - 1).level == "fine"
    said = told([failing(ONE, 0)], NEWEST, NOW_S + SHORT_S)
    assert "no request has been decided without it yet; 1 of 1 process affected" in said.text


def test_an_edit_that_is_not_everywhere_is_told():
    said = told([ONE, replace(TWO, version=NEWEST - 1)], NEWEST, NOW_S)
    assert said.level == "late"
    assert said.text == "The newest edit is not yet in force in 1 of 2 processes."
    assert [row.limits for row in said.rows] == ["newest", "older"]


def test_nobody_serving_is_told():
    assert "In force nowhere" in told([], NEWEST, NOW_S).text


def test_each_process_is_told_apart():
    status = replace(ONE, failures={"timeout": 1_500, "new": 1}, decided={"local": 7}, version=-1)
    (row,) = told([status], NEWEST, NOW_S).rows
    assert row.name == "7 on ab12"
    assert row.failures == "no answer in time: 1,500, new: 1"
    assert (row.decided, row.limits) == ("local: 7", "none")


def test_the_page_says_how_many_processes_enforce(engine, admin_client):
    RateLimit.objects.create(name="one", quota=3)
    admin_client.get(PAGE)
    deadline = time.monotonic() + 10
    while "In force in 1 process" not in (page := admin_client.get(PAGE).content.decode()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert 'id="in-force" role="status"' in page
    assert "Process by process" in page


def test_the_page_works_and_says_so_while_redis_is_away(engine, admin_client, redis_server):
    RateLimit.objects.create(name="one", quota=3_000)
    engine.refresh()
    admin_client.get(PAGE)
    redis_server.pause()
    try:
        for _ in range(2):
            response = admin_client.get(PAGE)
    finally:
        redis_server.resume()
    assert response.status_code == 200
    page = response.content.decode()
    assert "Redis has been failing since" in page
    assert "decided by each limit&#x27;s own policy. What other processes do" in page
