"""Rolling up: what is written by a turn, by several, by two at once, and what goes."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, connections
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits import usage_rolling as rolling
from apps.ratelimits.models import LimitRollUp, RateLimit, RolledUp, TotalRollUp
from apps.ratelimits.models.usage import KEPT, Resolution
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.usage import LIMIT_FIELDS, LimitUsage, Usage
from apps.ratelimits.tasks import roll_up_usage

NOON = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Told:
    """A store that says what it is told to; ``by_now`` adds to it."""

    def __init__(self, since: datetime = NOON) -> None:
        self.usage = Usage(since.timestamp())

    def read(self) -> Usage:
        return self.usage

    def by_now(self, limits: dict[int, LimitUsage], since: datetime | None = None, **totals: int):
        since_s = self.usage.since_s if since is None else since.timestamp()
        self.usage = Usage(since_s, limits=limits, **totals)
        return self


class Away:
    def read(self) -> Usage:
        raise Unavailable("away")


@pytest.fixture
def limit(db):
    return RateLimit.objects.create(name="api", quota=5)


def rows(resolution=Resolution.MINUTE, number=None):
    found = LimitRollUp.objects.filter(resolution_s=resolution).order_by("at")
    if number is not None:
        found = found.filter(limit_id=number)
    return [
        (at.strftime("%H:%M"), *numbers) for at, *numbers in found.values_list("at", *LIMIT_FIELDS)
    ]


def test_what_came_between_two_turns_goes_to_the_minutes_in_which_it_came(limit):
    told = Told()
    rolling.roll_up(told, NOON)
    told.by_now({limit.pk: LimitUsage(60, 12, 6, 3, 7_800)})
    written = rolling.roll_up(told, NOON + MINUTE)
    assert rows() == [("12:00", 60, 12, 6, 3, 7_800)]
    assert rows(Resolution.HOUR) == [("12:00", 60, 12, 6, 3, 7_800)]
    assert rows(Resolution.DAY) == [("00:00", 60, 12, 6, 3, 7_800)]
    # Of the limit, at each resolution, and no row of all where nothing of all was said: would_deny.
    assert written == 6
    told.by_now({limit.pk: LimitUsage(120, 12, 6, 3, 13_800)})
    rolling.roll_up(told, NOON + 2.5 * MINUTE)
    assert rows() == [
        ("12:00", 60, 12, 6, 3, 7_800),
        ("12:01", 40, 0, 0, 0, 4_000),
        ("12:02", 20, 0, 0, 0, 2_000),
    ]
    told.by_now({limit.pk: LimitUsage(130, 12, 6, 3, 14_800)})
    rolling.roll_up(told, NOON + 3 * MINUTE)
    assert rows()[-1] == ("12:02", 30, 0, 0, 0, 3_000)
    assert rows(Resolution.HOUR) == [("12:00", 130, 12, 6, 3, 14_800)]


def test_all_requests_are_rolled_up_too(limit):
    told = Told()
    rolling.roll_up(told, NOON)
    checks = (5, 2, *Usage(0).checks[2:])
    totals = {"requests": 9, "errors": 1, "allowed": 5, "denied": 2, "degraded": 1}
    told.by_now(
        {limit.pk: LimitUsage(1, 2, 3), 77: LimitUsage(0, 0, 4)},
        checks=checks, checks_sum_us=900, **totals,
    )  # fmt: skip
    rolling.roll_up(told, NOON + MINUTE)
    (row,) = TotalRollUp.objects.filter(resolution_s=60).values(*rolling.TOTAL_FIELDS)
    assert row == {**totals, "checks": 7, "sum_us": 900, "would_deny": 7}
    assert TotalRollUp.objects.count() == 3


def test_a_turn_in_which_nothing_came_writes_nothing(limit):
    told = Told().by_now({limit.pk: LimitUsage(5)}, requests=5)
    rolling.roll_up(told, NOON)
    assert rolling.roll_up(told, NOON + MINUTE) == 0
    assert rolling.roll_up(told, NOON + 2 * MINUTE) == 0
    assert rows() == [("12:00", 5, 0, 0, 0, 0)]


def test_totals_that_are_older_than_the_first_turn_are_nobodys_minute(limit):
    told = Told(NOON - timedelta(days=30)).by_now({limit.pk: LimitUsage(1_000_000)})
    assert rolling.roll_up(told, NOON) == 0
    assert RolledUp.objects.get().began_at == NOON
    told.by_now({limit.pk: LimitUsage(1_000_007)})
    rolling.roll_up(told, NOON + MINUTE)
    assert rows() == [("12:00", 7, 0, 0, 0, 0)]


def test_totals_that_began_a_moment_before_the_first_turn_are_counted(limit):
    told = Told(NOON - MINUTE / 2).by_now({limit.pk: LimitUsage(10)})
    rolling.roll_up(told, NOON + MINUTE / 2)
    assert rows() == [("11:59", 5, 0, 0, 0, 0), ("12:00", 5, 0, 0, 0, 0)]
    assert RolledUp.objects.get().began_at == NOON - MINUTE / 2


def test_where_redis_lost_what_it_knew_what_came_since_is_new(limit):
    told = Told().by_now({limit.pk: LimitUsage(100)})
    rolling.roll_up(told, NOON)
    told.by_now({limit.pk: LimitUsage(30)}, since=NOON + 3 * MINUTE)
    rolling.roll_up(told, NOON + 4 * MINUTE)
    assert rows() == [("12:00", 100, 0, 0, 0, 0), ("12:03", 30, 0, 0, 0, 0)]


def test_missed_turns_are_spread_and_their_sums_are_exact(limit):
    told = Told()
    rolling.roll_up(told, NOON)
    told.by_now({limit.pk: LimitUsage(7_201, 3)}, requests=7_204)
    rolling.roll_up(told, NOON + timedelta(hours=5))
    minutes = rows()
    assert len(minutes) == 60
    assert minutes[1][0] == "12:05"
    assert {allowed for _, allowed, *_ in minutes} == {120, 121}
    assert (sum(row[1] for row in minutes), sum(row[2] for row in minutes)) == (7_201, 3)
    hours = rows(Resolution.HOUR)
    assert [row[0] for row in hours] == ["12:00", "13:00", "14:00", "15:00", "16:00"]
    assert {row[1] for row in hours} == {1_440, 1_441}
    assert rows(Resolution.DAY) == [("00:00", 7_201, 3, 0, 0, 0)]


def test_a_clock_that_went_back_loses_nothing(limit):
    told = Told()
    rolling.roll_up(told, NOON)
    told.by_now({limit.pk: LimitUsage(9)})
    rolling.roll_up(told, NOON - 2 * MINUTE)
    assert rows() == [("11:58", 9, 0, 0, 0, 0)]


def test_while_redis_is_away_the_next_turn_catches_up(limit):
    told = Told()
    rolling.roll_up(told, NOON)
    with pytest.raises(Unavailable):
        rolling.roll_up(Away(), NOON + MINUTE)
    told.by_now({limit.pk: LimitUsage(8)})
    rolling.roll_up(told, NOON + 2 * MINUTE)
    assert rows() == [("12:00", 4, 0, 0, 0, 0), ("12:01", 4, 0, 0, 0, 0)]


def test_a_turn_that_fails_in_the_midst_has_not_been(limit, monkeypatch):
    told = Told()
    rolling.roll_up(told, NOON)
    told.by_now({limit.pk: LimitUsage(8)})

    def killed(*args):
        LimitRollUp.objects.create(limit_id=limit.pk, resolution_s=60, at=NOON, allowed=8)
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(rolling, "_write", killed)
        with pytest.raises(SystemExit):
            rolling.roll_up(told, NOON + MINUTE)
    assert rows() == []
    rolling.roll_up(told, NOON + MINUTE)
    assert rows() == [("12:00", 8, 0, 0, 0, 0)]


def test_of_two_turns_at_once_one_counts(limit):
    """The second has read before the first has written."""
    told = Told()
    rolling.roll_up(told, NOON)
    told.by_now({limit.pk: LimitUsage(8)})

    class Slow(Told):
        def read(self):
            usage = super().read()
            assert rolling.roll_up(told, NOON + MINUTE) == 3
            return usage

    assert rolling.roll_up(Slow().by_now({limit.pk: LimitUsage(8)}), NOON + MINUTE) == 0
    assert rows() == [("12:00", 8, 0, 0, 0, 0)]


@pytest.mark.django_db(transaction=True)
def test_workers_in_threads_never_count_twice():
    limit = RateLimit.objects.create(name="api", quota=5)
    told = Told()
    rolling.roll_up(told, NOON)
    begin = threading.Barrier(4)
    failed = []

    def work():
        try:
            for turn in range(10):
                begin.wait()
                rolling.roll_up(told, NOON + (turn + 1) * MINUTE)
                begin.wait()
                told.by_now({limit.pk: LimitUsage(10 * (turn + 1))})
        except Exception as error:
            failed.append(error)
            begin.abort()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failed == []
    rolling.roll_up(told, NOON + 11 * MINUTE)
    assert sum(row[1] for row in rows()) == 100
    assert rows(Resolution.HOUR) == [("12:00", 100, 0, 0, 0, 0)]


def test_what_is_older_than_it_is_kept_goes(limit):
    for resolution, kept in KEPT.items():
        for age in (kept - timedelta(days=1), kept + timedelta(seconds=1)):
            for number in range(3):
                at = NOON - age - number * timedelta(days=0.5) * (age > kept)
                LimitRollUp.objects.create(
                    limit_id=limit.pk + number, resolution_s=resolution, at=at
                )
            TotalRollUp.objects.create(resolution_s=resolution, at=NOON - age)
    assert rolling.forget(NOON) == 12
    assert LimitRollUp.objects.count() == 9
    assert TotalRollUp.objects.count() == 3
    assert rolling.forget(NOON) == 0


def test_roll_ups_of_deleted_limits_go_also_where_redis_still_counts_them(limit, monkeypatch):
    monkeypatch.setattr(rolling, "DELETED_AT_ONCE", 2)
    other = RateLimit.objects.create(name="other", quota=5)
    told = Told().by_now({limit.pk: LimitUsage(5), other.pk: LimitUsage(6)}, requests=11)
    rolling.roll_up(told, NOON)
    # Redis has lost what it knew, and hears of one of them only.
    told.by_now({other.pk: LimitUsage(1)}, since=NOON + MINUTE)
    rolling.roll_up(told, NOON + 2 * MINUTE)
    number = limit.pk
    limit.delete()
    told.by_now({other.pk: LimitUsage(2), number: LimitUsage(3)})
    rolling.roll_up(told, NOON + 3 * MINUTE)
    assert rolling.forget(NOON + 3 * MINUTE) == 3
    assert set(LimitRollUp.objects.values_list("limit_id", flat=True)) == {other.pk}
    assert str(number) not in RolledUp.objects.get().counted["limits"]
    told.by_now({other.pk: LimitUsage(3), number: LimitUsage(4)})
    rolling.roll_up(told, NOON + 4 * MINUTE)
    assert rows(number=number) == []
    assert sum(row[1] for row in rows(number=other.pk)) == 9


def test_a_limit_that_is_gone_is_remembered_until_its_rows_are(limit):
    told = Told().by_now({limit.pk: LimitUsage(5)})
    rolling.roll_up(told, NOON)
    number = limit.pk
    limit.delete()
    assert rolling.forget(NOON, budget_s=0) == 0
    assert str(number) in RolledUp.objects.get().counted["limits"]
    assert rolling.forget(NOON) == 3


@given(
    st.integers(0, 500_000), st.floats(0, 400 * 86_400), st.integers(0, 10**15),
    st.sampled_from(list(Resolution)),
)  # fmt: skip
def test_slots_share_out_all_of_it_in_time(begin_s, span_s, number, resolution):
    begin = NOON + timedelta(seconds=begin_s)
    end = begin + timedelta(seconds=span_s)
    found = rolling.slots(begin, end, resolution)
    assert 1 <= len(found) <= rolling.MOST_SLOTS + 1
    assert sum(slot.share(number) for slot in found) == number
    times = [slot.at for slot in found]
    assert times == sorted(set(times))
    assert all(at.timestamp() % resolution == 0 for at in times)
    assert times[0] <= begin
    assert times[-1] <= end
    assert (begin - times[0]).total_seconds() < resolution


def test_what_is_known_is_read_as_it_was_written():
    usage = Usage(7.25, requests=5, checks=tuple(range(22)), limits={3: LimitUsage(1, 2, 3, 4, 5)})
    read = rolling.decode(rolling.encode(usage, known=[3, 9]))
    assert read.limits == {3: LimitUsage(1, 2, 3, 4), 9: LimitUsage()}
    assert read.limits[3].sum_us == 5
    assert (read.since_s, read.requests, read.checks) == (7.25, 5, usage.checks)


def test_the_task_rolls_up_what_redis_has_counted(engine):
    limit = RateLimit.objects.create(name="api", quota=5)
    assert roll_up_usage() == 0
    counted = {
        "requests": 4,
        "allowed": 4,
        f"limit:{limit.pk}:allowed": 4,
        f"limit:{limit.pk}:sum_us": 800,
    }
    engine.usage.add("a", 1, counted)
    assert roll_up_usage() > 0
    assert roll_up_usage() == 0
    assert sum(row[1] for row in rows()) == 4
    assert sum(row[5] for row in rows()) == 800
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM ratelimits_rolledup")
        assert cursor.fetchone() == (1,)


def test_the_schedule_is_a_row(db):
    from django_celery_beat.models import PeriodicTask

    row = PeriodicTask.objects.get(task="ratelimits.roll_up_usage")
    assert (row.enabled, row.queue, str(row.crontab).split(" (")[0]) == (True, None, "* * * * *")
