"""Reading samples back."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.monitoring import history, rolling
from apps.monitoring.history import latest, points
from apps.monitoring.models import Sample, Source

pytestmark = pytest.mark.django_db
MANY = 100_000


@pytest.fixture
def now() -> datetime:
    """A whole ten minutes ago: samples are kept by the clock."""
    now_s = int(timezone.now().timestamp()) // 600 * 600
    return datetime.fromtimestamp(now_s, tz=UTC)


def make_source(address: str = "a:1") -> Source:
    at = timezone.now()
    return Source.objects.create(kind="node", address=address, first_seen_at=at, looked_at=at)


def fill(source: Source, begin: datetime, values: list[float | None], resolution_s: int = 10):
    def shown(value):
        three = value if value is None or resolution_s == 10 else [value - 1, value, value + 2]
        return {"keys": three, "ops_per_s": 1.0 if resolution_s == 10 else [1.0, 1.0, 1.0]}

    Sample.objects.bulk_create(
        [
            Sample(
                source=source,
                at=begin + timedelta(seconds=resolution_s * place),
                resolution_s=resolution_s,
                values=shown(value),
            )
            for place, value in enumerate(values)
        ],
        batch_size=5_000,
    )


def test_the_newest_sample_with_why_a_part_is_unknown(now):
    source = make_source()
    assert latest(source) is None
    fill(source, now - timedelta(seconds=20), [1.0, None])
    source.unknown = {"keys": "INFO: forbidden"}
    reading = latest(source)
    assert reading.at == now - timedelta(seconds=10)
    assert (reading.values["keys"], reading.unknown["keys"]) == (None, "INFO: forbidden")


def test_a_few_minutes_are_read_as_they_were_taken_with_their_gaps(now):
    source = make_source()
    begin = now - timedelta(seconds=100)
    fill(source, begin, [1.0, 2.0, None, 4.0])
    fill(source, begin + timedelta(seconds=60), [7.0, 8.0])
    found = points(source, "keys", begin, now)
    assert [point.mean for point in found] == [1, 2, None, 4, None, None, 7, 8, None, None]
    assert [point.at for point in found] == [begin + timedelta(seconds=10 * n) for n in range(10)]
    assert points(source, "clients", begin, now)[0].high is None  # not one of its names


def test_an_hour_is_at_most_as_many_points_as_asked_for(now):
    source = make_source()
    fill(source, now - timedelta(hours=1), [float(n) for n in range(360)])
    found = points(source, "keys", now - timedelta(hours=1), now)
    assert len(found) == 180
    assert (found[0].low, found[0].mean, found[0].high) == (0, 0.5, 1)
    for most in (1, 2, 7, 50):
        found = points(source, "keys", now - timedelta(hours=1), now, most)
        assert len(found) <= max(2, most)
        assert min(point.low for point in found if point.low is not None) == 0
        assert max(point.high for point in found if point.high is not None) == 359


def test_a_day_and_a_week_are_read_from_what_was_rolled_up_and_the_newest_as_taken(now):
    source = make_source()
    fill(source, now - timedelta(days=1), [5.0] * (24 * 60 - 2), 60)
    fill(source, now - timedelta(days=7), [6.0] * (7 * 144 - 1), 600)
    fill(source, now - timedelta(minutes=10), [9.0] * 60)
    day = points(source, "keys", now - timedelta(days=1), now)
    assert 280 < len(day) <= 300
    assert (day[0].low, day[0].mean, day[0].high) == (4, 5, 7)
    assert day[-1].high == 9
    week = points(source, "keys", now - timedelta(days=7), now)
    assert 240 < len(week) <= 300
    assert (week[0].low, week[0].mean, week[0].high) == (5, 6, 8)
    assert week[-1].high == 9
    assert None not in {point.mean for point in [*day, *week]}


def test_what_is_older_is_read_from_what_is_still_kept(now):
    source = make_source()
    begin = now - timedelta(days=30)
    fill(source, begin, [3.0] * 6, 600)
    found = points(source, "keys", begin, begin + timedelta(hours=1))
    assert [point.mean for point in found] == [3.0] * 6


def test_several_lines_are_those_that_each_would_be_alone(now):
    source = make_source()
    fill(source, now - timedelta(hours=1), [float(n) for n in range(360)])
    since = now - timedelta(hours=1)
    names = ["keys", "ops_per_s", "clients"]
    together = history.lines(source, names, since, now)
    assert together == {name: points(source, name, since, now) for name in names}
    assert {point.mean for point in together["ops_per_s"]} == {1.0}


def test_no_such_metric_and_no_time_are_refused(now):
    source = make_source()
    with pytest.raises(KeyError):
        points(source, "keys'; DROP", now - timedelta(hours=1), now)
    with pytest.raises(ValueError, match="no point in it"):
        points(source, "keys", now, now)


def test_it_asks_by_the_index_and_twice_at_most(now):
    source, other = make_source(), make_source("b:1")
    fill(source, now - timedelta(days=7), [6.0] * 1_000, 600)
    fill(other, now - timedelta(days=2), [7.0] * 17_000)
    with CaptureQueriesContext(
        connection,
    ) as asked:
        points(source, "keys", now - timedelta(days=7), now)
    assert len(asked) == 2
    if connection.vendor == "sqlite":
        for one in asked.captured_queries:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {one['sql']}")
                plan = str(cursor.fetchall())
            assert "USING INDEX" in plan
            assert "source_id=? AND resolution_s=?" in plan


def test_a_hundred_thousand_rows_are_no_matter(now):
    """Of a million, with nine sources more, docs/guides/health.md says how long it takes."""
    source = make_source()
    fill(source, now - timedelta(days=2), [6.0] * 17_280)
    fill(source, now - timedelta(days=14), [6.0] * 20_160, 60)
    fill(source, now - timedelta(days=400), [6.0] * (MANY - 37_440), 600)
    fill(source, now - timedelta(days=400), [6.0] * 2_400, 14_400)
    for days in (1 / 24, 1, 7, 400):
        began_s = time.perf_counter()
        found = points(source, "keys", now - timedelta(days=days), now)
        assert time.perf_counter() - began_s < 2  # of a noisy machine
        assert len(found) <= 300
    assert rolling.KEPT[600] == timedelta(days=400)
