"""The page of a limit's usage, and what the list of limits says of it."""

from __future__ import annotations

import csv
import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from itertools import pairwise

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from django.utils import timezone

from apps.ratelimits.admin.usage import sparkline
from apps.ratelimits.models import LimitRollUp, Override, RateLimit
from apps.ratelimits.models.usage import Resolution
from apps.ratelimits.tasks import roll_up_usage
from apps.ratelimits.usage_rolling import start

LIST = "/admin/ratelimits/ratelimit/"


def page(limit, **query):
    return reverse("admin:ratelimits_ratelimit_usage", args=[limit.pk], query=query or None)


@pytest.fixture
def limit(engine):
    return RateLimit.objects.create(name="api", quota=5, path_kind="prefix", path="/api/")


@pytest.fixture
def staff(engine, admin_client):
    return admin_client


def text(response) -> str:
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def row(limit, ago: timedelta, resolution=Resolution.MINUTE, **numbers) -> LimitRollUp:
    """Added to what is there: 3 minutes and 20 hours ago may be one day."""
    at = start(timezone.now() - ago, resolution)
    made, _ = LimitRollUp.objects.get_or_create(limit_id=limit.pk, resolution_s=resolution, at=at)
    for name, number in numbers.items():
        setattr(made, name, getattr(made, name) + number)
    made.save()
    return made


def drawn(said: str, label: str) -> list[dict]:
    values = [json.loads(unescape(one)) for one in re.findall(r'data-value="([^"]*)"', said)]
    sets = [one for value in values for one in value["datasets"]]
    return next(one for one in sets if one["label"] == label)["data"]


def test_a_limit_that_nobody_asked_says_what_will_be_here(staff, limit):
    said = text(staff.get(page(limit)))
    assert "This limit was asked about no request in this time." in said
    assert "Usage has not been rolled up yet" in said
    assert "ratelimits.roll_up_usage" in said
    assert "<canvas" not in said
    assert "switched off" not in said
    roll_up_usage()
    said = text(staff.get(page(limit)))
    assert "not been rolled up" not in said
    assert "Counted since" in said


def test_numbers_first_then_charts_and_the_same_as_a_table(staff, limit):
    row(limit, timedelta(minutes=30), allowed=1_200, denied=300, degraded=7, sum_us=300_000)
    row(limit, timedelta(minutes=10), allowed=2, would_deny=2, sum_us=1_200)
    said = text(staff.get(page(limit)))
    for label, number in (
        ("Allowed", "1,202"),
        ("Denied", "300 <small>19.9 %</small>"),
        ("Would have been denied (shadow)", "2 <small>0.1 %</small>"),
        ("Failed over: decided without Redis", "7"),
        ("Mean time of a check", "200 µs"),
    ):
        assert f"<dt>{label}</dt><dd>{number}</dd>" in said
    denied = drawn(said, "denied")
    assert len(denied) == 61  # Without the minute under way, with the end of the last.
    assert [dot["said"][0] for dot in denied if dot["y"]] == ["300 denied"]
    assert sum(dot["y"] for dot in drawn(said, "allowed")[:-1]) == 1_202
    assert {dot["y"] for dot in drawn(said, "would have denied")} == {0, 2}
    table = said[said.index('id="points"') :]
    cells = '<td class="number">1,200</td><td class="number">300</td><td class="number">0</td>'
    assert f'{cells}<td class="number">7</td><td class="number">200 µs</td>' in table
    assert table.count("<tr>") == 62


@pytest.mark.parametrize(
    ("period", "each", "number"),
    [("hour", "Each minute", 61), ("day", "Each 15 minutes", 97), ("month", "Each 6 hours", 121)],
)
def test_periods(staff, limit, period, each, number):
    for resolution in Resolution:
        row(limit, timedelta(minutes=3), resolution, allowed=8)
        row(limit, timedelta(hours=20), resolution, allowed=4)
    said = text(staff.get(page(limit, period=period)))
    assert f"<h2>{each}</h2>" in said
    assert re.search(rf'href="\?period={period}" aria-current="page"', said)
    assert said[said.index('id="points"') :].count("<tr>") in (number, number + 1)
    expected = 8 if period == "hour" else 12
    assert f"<dt>Allowed</dt><dd>{expected}</dd>" in said
    # What is no period is the usual one.
    assert "<h2>Each minute</h2>" in text(staff.get(page(limit, period="century")))


def test_its_edits_are_beside_it_and_no_others(staff, limit):
    row(limit, timedelta(minutes=30), allowed=1)
    limit.quota = 9
    limit.save()
    RateLimit.objects.create(name="other", quota=3)
    Override.objects.create(limit=limit, network="192.0.2.0/24", action="blocked")
    Override.objects.create(network="198.51.100.0/24", action="blocked")
    said = text(staff.get(page(limit)))
    edits = said[said.index('id="edits"') : said.index('id="version"')]
    assert edits.count("<tr>") == 4
    for words in ("api made", "api edited: quota", "override"):
        assert words in edits
    assert "other" not in edits
    marks = [dot["said"][0] for dot in drawn(said, "edited") if "said" in dot]
    assert "api edited: quota" in marks
    assert len(marks) == 3


def test_which_version_is_in_force_and_where(staff, limit, engine):
    said = text(staff.get(page(limit)))
    assert 'id="in-force"' in said
    assert "The newest version of the limits is" in said


def test_what_is_not_rolled_up_yet_is_there_already(staff, limit, engine):
    roll_up_usage()
    engine.usage.add("a", 1, {f"limit:{limit.pk}:denied": 41, f"limit:{limit.pk}:sum_us": 41})
    said = text(staff.get(page(limit)))
    assert "<dt>Denied</dt><dd>41 <small>100.0 %</small></dd>" in said


def test_where_redis_is_away_what_is_rolled_up_is_shown(staff, limit, engine, monkeypatch):
    from apps.ratelimits.storage.errors import Unavailable

    row(limit, timedelta(minutes=30), allowed=77)

    def away(*args):
        raise Unavailable("away")

    monkeypatch.setattr(engine.usage, "_ask", away)
    assert "<dt>Allowed</dt><dd>77</dd>" in text(staff.get(page(limit)))


def test_a_worker_that_is_gone_is_told(staff, limit):
    from apps.ratelimits.models import RolledUp

    roll_up_usage()
    RolledUp.objects.update(read_at=timezone.now() - timedelta(minutes=20))
    said = text(staff.get(page(limit)))
    assert "is Celery's worker alive, and beat?" in unescape(said)


def test_the_points_as_csv(staff, limit):
    row(limit, timedelta(minutes=30), allowed=1_200, denied=300, degraded=7, sum_us=300_000)
    response = staff.get(page(limit, period="hour", format="csv"))
    assert response["Content-Type"].startswith("text/csv")
    assert response["Content-Disposition"] == 'attachment; filename="usage-api-hour.csv"'
    rows = list(csv.reader(response.content.decode().splitlines()))
    assert rows[0] == [
        "from",
        "allowed",
        "denied",
        "would_have_denied",
        "failed_over",
        "mean_check_us",
    ]
    assert len(rows) in (61, 62)
    assert [one[1:] for one in rows[1:] if one[1] != "0"] == [["1200", "300", "0", "7", "200.0"]]
    times = [datetime.fromisoformat(one[0]) for one in rows[1:]]
    assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(minutes=1)}


@pytest.mark.parametrize("query", [{}, {"format": "csv"}])
def test_who_may_view_limits_may_see_it(client, limit, query):
    user = User.objects.create_user("ada", is_staff=True)
    client.force_login(user)
    assert client.get(page(limit, **query)).status_code == 403
    user.user_permissions.set(Permission.objects.filter(codename="view_ratelimit"))
    assert client.get(page(limit, **query)).status_code == 200
    user.is_staff = False
    user.save()
    assert client.get(page(limit, **query)).status_code == 302


@pytest.mark.parametrize("number", ["999", "x", "1' OR 1"])
def test_of_no_limit_there_is_no_page(staff, limit, number):
    assert staff.get(f"{LIST}{number}/usage/").status_code == 404


def test_the_form_and_the_list_lead_to_it(staff, limit):
    assert f'href="{page(limit)}"' in text(staff.get(f"{LIST}{limit.pk}/change/"))
    assert f'href="{page(limit)}?period=day"' in text(staff.get(LIST))
    assert staff.get(f"{LIST}add/").status_code == 200


def test_the_list_says_who_denied_and_asks_once(staff, limit, django_assert_max_num_queries):
    others = [RateLimit.objects.create(name=f"limit-{n}", quota=3) for n in range(30)]
    row(limit, timedelta(), Resolution.HOUR, denied=1_300, allowed=5)
    row(limit, timedelta(hours=2), Resolution.HOUR, denied=12)
    row(others[0], timedelta(hours=23), Resolution.HOUR, would_deny=9)
    row(others[1], timedelta(hours=25), Resolution.HOUR, denied=4)
    row(others[2], timedelta(), Resolution.MINUTE, denied=4)
    said = text(staff.get(LIST))
    assert re.search(r"1,312 denied in 24 hours, most from \d\d:00 \(1,300\)</span>", said)
    assert "9 would have been denied in 24 hours" in said
    assert said.count(">0 denied in 24 hours</span>") == 29
    with django_assert_max_num_queries(14) as few:
        staff.get(LIST)
    assert sum("limitrollup" in query["sql"] for query in few.captured_queries) == 1


def test_the_filter_of_those_that_denied_in_the_last_hour(staff, limit):
    others = [RateLimit.objects.create(name=f"limit-{n}", quota=3) for n in range(3)]
    row(limit, timedelta(minutes=50), denied=1)
    row(others[0], timedelta(minutes=70), denied=1)
    row(others[0], timedelta(hours=3), Resolution.HOUR, denied=1)
    row(others[1], timedelta(minutes=1), allowed=1)

    def named(**query):
        said = text(staff.get(LIST, query))
        return set(re.findall(r"(api|limit-\d)</a>", said))

    assert named(denied="hour") == {"api"}
    assert named(denied="day") == {"limit-0"}
    assert named() == {"api", "limit-0", "limit-1", "limit-2"}


def test_a_sparkline_has_a_bar_for_each_hour_that_denied(limit):
    now = datetime(2026, 11, 26, 12, 30, tzinfo=UTC)
    hour = now.replace(minute=0)
    denied = {
        hour: (1, 0),
        hour - timedelta(hours=23): (1_000, 5),
        hour - timedelta(hours=9): (500, 0),
    }
    said = str(sparkline(limit, denied, now))
    bars = re.findall(r'<rect x="(\d+)" y="(\d+)" width="3" height="(\d+)"/>', said)
    assert bars == [("0", "0", "20"), ("56", "10", "10"), ("92", "19", "1")]
    assert "1,501 denied in 24 hours, most from 13:00 (1,000)" in said
    assert "us-shadow" not in said
    assert "us-shadow" in str(sparkline(limit, {hour: (0, 3)}, now))
