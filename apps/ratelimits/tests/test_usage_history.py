"""What is read of roll-ups: the right rows, none twice, and quickly where there are a million."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from apps.ratelimits import usage_history as history
from apps.ratelimits import usage_rolling as rolling
from apps.ratelimits.models import LimitRollUp, RateLimit, RolledUp, TotalRollUp
from apps.ratelimits.models.usage import KEPT, Resolution
from apps.ratelimits.storage.usage import LimitUsage, Usage

NOON = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
HOUR, DAY, MONTH = timedelta(hours=1), timedelta(days=1), timedelta(days=30)
MOST_MS = 300
LIMITS = 184


class Clock:
    at = NOON


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(history, "timezone", SimpleNamespace(now=lambda: made.at))
    return made


@pytest.fixture
def rolled(db, clock):
    """Everything is rolled up until noon."""
    RolledUp.objects.create(
        pk=1, began_at=NOON - MONTH, read_at=NOON, counted=rolling.encode(Usage(1.0))
    )


def row(number, at, resolution=Resolution.MINUTE, **numbers):
    LimitRollUp.objects.create(limit_id=number, at=at, resolution_s=resolution, **numbers)


def test_points_have_equal_lengths_and_no_holes(rolled):
    row(1, NOON - timedelta(minutes=60), allowed=1, sum_us=50)
    row(1, NOON - timedelta(minutes=7), denied=2, would_deny=3, degraded=1, sum_us=1_000)
    row(2, NOON - timedelta(minutes=7), denied=9)
    row(1, NOON - timedelta(minutes=61), denied=100)
    row(1, NOON - HOUR, Resolution.HOUR, denied=100)
    points = history.points(1, NOON - HOUR, NOON, most=61)
    assert len(points) == 60
    assert {b.at - a.at for a, b in pairwise(points)} == {timedelta(minutes=1)}
    assert points[0] == history.Point(NOON - HOUR, 1, 0, 0, 0, 50.0)
    assert points[53] == history.Point(NOON - timedelta(minutes=7), 0, 2, 3, 1, 200.0)
    assert points[1] == history.Point(NOON - timedelta(minutes=59), 0, 0, 0, 0, None)
    assert sum(point.denied for point in points) == 2
    assert points[1].is_empty
    assert not points[53].is_empty


@pytest.mark.parametrize("most", [1, 2, 7, 120, 10_000])
@pytest.mark.parametrize("span", [timedelta(seconds=1), HOUR, DAY, MONTH, timedelta(days=399)])
def test_there_are_never_too_many(rolled, span, most):
    since = NOON - span - timedelta(seconds=13)
    points = history.points(1, since, NOON - timedelta(seconds=0.5), most)
    assert 1 <= len(points) <= max(2, most)
    assert points[0].at <= since
    assert len({b.at - a.at for a, b in pairwise(points)}) <= 1


@pytest.mark.parametrize(
    ("since", "until", "resolution"),
    [
        (timedelta(hours=1), timedelta(), Resolution.MINUTE),
        (timedelta(hours=40), timedelta(), Resolution.MINUTE),
        (timedelta(hours=49), timedelta(hours=48), Resolution.HOUR),
        (timedelta(days=3), timedelta(), Resolution.HOUR),
        (timedelta(days=89), timedelta(), Resolution.HOUR),
        (timedelta(days=91), timedelta(days=90), Resolution.DAY),
        (timedelta(days=399), timedelta(), Resolution.DAY),
    ],
)
def test_the_finest_that_is_kept_and_not_too_many_is_read(rolled, since, until, resolution):
    for one in Resolution:
        at = rolling.start(NOON - since + timedelta(minutes=1), one)
        row(1, at, one, allowed=one)
    points = history.points(1, NOON - since, NOON - until)
    assert sum(point.allowed for point in points) == resolution


def test_of_all_requests(rolled):
    at = NOON - timedelta(minutes=7)
    parts = {"allowed": 5, "denied": 3, "would_deny": 2, "degraded": 1, "sum_us": 1_600}
    TotalRollUp.objects.create(at=at, resolution_s=60, requests=90, errors=1, checks=8, **parts)
    points = history.points(None, NOON - HOUR, NOON, most=61)
    # A verdict in shadow is no check of its own.
    assert points[53] == history.Point(at, 5, 3, 2, 1, 200.0)
    assert sum(point.allowed for point in points) == 5


@pytest.mark.parametrize(
    ("since", "until", "most"), [(NOON, NOON, 5), (NOON, NOON - DAY, 5), (NOON - DAY, NOON, 0)]
)
def test_what_has_no_point_is_refused(db, since, until, most):
    with pytest.raises(ValueError, match="no point"):
        history.points(1, since, until, most)


def test_totals_and_the_worst(rolled):
    for number, denied in ((1, 5), (2, 50), (3, 0), (4, 50), (5, 1)):
        row(number, NOON - timedelta(minutes=9), allowed=1, denied=denied, sum_us=10)
        row(number, NOON - timedelta(minutes=3), allowed=1, would_deny=2)
        row(number, NOON - HOUR, Resolution.HOUR, denied=7_000)
    totals = history.totals(NOON - HOUR, NOON)
    assert totals[2] == LimitUsage(2, 50, 2)
    assert totals[2].sum_us == 10
    assert set(totals) == {1, 2, 3, 4, 5}
    worst = history.worst(NOON - HOUR, NOON, 3)
    assert [number for number, _ in worst] == [2, 4, 1]
    assert worst[0][1] == totals[2]
    assert len(history.worst(NOON - HOUR, NOON, 9)) == 4
    assert history.worst(NOON + HOUR, NOON + DAY, 3) == []
    # Over a day by whole hours.
    assert history.totals(NOON - DAY, NOON)[3].denied == 7_000


def test_what_came_since_the_last_turn_is_read_from_redis(engine, clock):
    clock.at = NOON + timedelta(minutes=2)
    counted = {"requests": 4, "denied": 2, "check:50": 2, "limit:7:denied": 2, "limit:7:sum_us": 60}
    engine.usage.add("a", 1, counted)
    known = engine.usage.read()
    RolledUp.objects.create(pk=1, began_at=NOON, read_at=NOON, counted=rolling.encode(known))
    engine.usage.add("a", 2, {**counted, "limit:8:denied": 500})
    points = history.points(7, NOON - HOUR, clock.at)
    assert [(one.at, one.denied, one.mean_us) for one in points if one.denied] == [
        (NOON, 1, 30.0), (NOON + timedelta(minutes=1), 1, 30.0),
    ]  # fmt: skip
    assert sum(point.denied for point in history.points(None, NOON - HOUR, clock.at)) == 2
    # Not of a time that is rolled up wholly.
    assert not any(one.denied for one in history.points(7, NOON - HOUR, NOON))


def test_a_turn_changes_nothing_of_what_is_read(engine, clock):
    limit = RateLimit.objects.create(name="api", quota=1)
    clock.at = timezone.now()
    rolling.roll_up(engine.usage, clock.at - timedelta(minutes=5))
    counted = {f"limit:{limit.pk}:allowed": 11, f"limit:{limit.pk}:sum_us": 2_200}
    engine.usage.add("a", 1, counted)
    before = history.points(limit.pk, clock.at - HOUR, clock.at)
    assert sum(point.allowed for point in before) == 11
    rolling.roll_up(engine.usage, clock.at)
    assert history.points(limit.pk, clock.at - HOUR, clock.at) == before


def test_standing(db, clock):
    assert history.standing() is None
    RolledUp.objects.create(pk=1, began_at=NOON - DAY, read_at=NOON, counted={})
    assert history.standing() == history.Standing(NOON - DAY, NOON, False)
    clock.at = NOON + timedelta(minutes=6)
    assert history.standing().is_late


@pytest.fixture
def million(db):
    """All that is kept of 184 limits that never rest: the rows of one, and copies of them."""
    now = timezone.now()
    limits = [RateLimit(name=f"limit-{number}", quota=5, mode="off") for number in range(LIMITS)]
    RateLimit.objects.bulk_create(limits)
    first = min(limit.pk for limit in limits)
    rows = [
        LimitRollUp(
            limit_id=first,
            resolution_s=resolution,
            at=rolling.start(now, resolution) - place * timedelta(seconds=resolution),
            allowed=100 + place,
            denied=place % 7,
            sum_us=20_000,
        )
        for resolution, kept in KEPT.items()
        for place in range(int(kept.total_seconds()) // resolution)
    ]
    LimitRollUp.objects.bulk_create(rows, batch_size=500)
    columns = "resolution_s, at, allowed, denied, would_deny, degraded, sum_us"
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO ratelimits_limitrollup (limit_id, {columns}) "  # noqa: S608
            f"SELECT ratelimits_ratelimit.id, {columns} FROM ratelimits_limitrollup, "
            "ratelimits_ratelimit WHERE ratelimits_ratelimit.id > %s",
            [first],
        )
    assert LimitRollUp.objects.count() > 1_000_000
    RolledUp.objects.create(
        pk=1, began_at=now - MONTH, read_at=now, counted=rolling.encode(Usage(1.0))
    )
    return first


def test_a_million_rows_keep_nobody_waiting(million, engine, admin_client, capsys):
    now = timezone.now()
    numbers = range(million, million + 100)
    usage = reverse("admin:ratelimits_ratelimit_usage", args=[million + 3])
    asked = {
        "points of an hour": lambda: history.points(million, now - HOUR, now, 61),
        "points of a day": lambda: history.points(million, now - DAY, now, 97),
        "points of a month": lambda: history.points(million, now - MONTH, now, 121),
        "totals of an hour": lambda: history.totals(now - HOUR, now),
        "totals of a day": lambda: history.totals(now - DAY, now),
        "totals of a month": lambda: history.totals(now - MONTH, now),
        "worst of an hour": lambda: history.worst(now - HOUR, now, 5),
        "worst of a month": lambda: history.worst(now - MONTH, now, 5),
        "sparklines of 100": lambda: history.denials(numbers, now - DAY, now),
        "denied in the last hour": lambda: list(
            RateLimit.objects.filter(pk__in=history.who_denied(now - HOUR))
        ),
        "denied in the last day": lambda: list(
            RateLimit.objects.filter(pk__in=history.who_denied(now - DAY))
        ),
        "page, an hour": lambda: opened(period="hour"),
        "page, a day": lambda: opened(period="day"),
        "page, a month": lambda: opened(period="month"),
    }

    def opened(**query):
        response = admin_client.get(usage, query)
        assert response.status_code == 200
        return response.content

    took_ms = {}
    for name, ask in asked.items():
        times = []
        for _ in range(4):
            began_s = time.perf_counter()
            assert ask()
            times.append((time.perf_counter() - began_s) * 1000)
        took_ms[name] = round(min(times), 1)
    with capsys.disabled():
        print("", *(f"{name}: {ms} ms" for name, ms in took_ms.items()), sep="\n")
    assert {name: ms for name, ms in took_ms.items() if ms > MOST_MS} == {}
    assert len(history.totals(now - DAY, now)) == LIMITS
