"""Coarser samples, against a direct computation; and what is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.monitoring import rolling
from apps.monitoring.models import Sample, Source
from apps.monitoring.rolling import joined

START = datetime(2026, 1, 1, tzinfo=UTC)
# As samples are kept: six digits.
VALUES = st.one_of(st.none(), st.floats(-1e12, 1e12).map(lambda value: float(f"{value:.6g}")))
SAMPLES = st.lists(st.dictionaries(st.sampled_from("abc"), VALUES), max_size=60)


@pytest.fixture
def source(db) -> Source:
    return Source.objects.create(kind="node", address="a:1", first_seen_at=START, looked_at=START)


def fill(source: Source, number: int, *, every_s: int = 10, begin: datetime = START) -> None:
    Sample.objects.bulk_create(
        Sample(
            source=source,
            at=begin + timedelta(seconds=every_s * n),
            values={"keys": float(n), "clients": None if n % 7 == 0 else n / 3},
        )
        for n in range(number)
    )


@given(SAMPLES)
def test_joined_is_lowest_mean_and_highest_of_what_is_known(samples):
    made = joined(samples)
    assert set(made) == {name for values in samples for name in values}
    for name, three in made.items():
        known = [values[name] for values in samples if values.get(name) is not None]
        if not known:
            assert three is None
            continue
        low, mean, high = three
        assert (low, high) == (min(known), max(known))
        assert mean == pytest.approx(fmean(known), rel=1e-5, abs=max(map(abs, known)) * 1e-5)
        assert low <= mean <= high


@pytest.mark.parametrize("resolution_s", [60, 600])
def test_rolled_up_is_what_the_samples_say(source, resolution_s):
    fill(source, 500)
    rolling.roll_up(START + timedelta(seconds=5_000))
    fine = list(source.samples.filter(resolution_s=10).order_by("at"))
    coarse = list(source.samples.filter(resolution_s=resolution_s).order_by("at"))
    # What is not complete with its grace is not there.
    assert len(coarse) == (5_000 - 20) // resolution_s
    for row in coarse:
        within = [
            one.values for one in fine if 0 <= (one.at - row.at).total_seconds() < resolution_s
        ]
        assert row.values == joined(within)
        assert len(within) == resolution_s // 10


def test_it_goes_on_where_it_was_and_twice_is_once(source):
    fill(source, 300)
    first = START + timedelta(seconds=1_234)
    rolling.roll_up(first)
    rolling.roll_up(first)
    rolling.roll_up(START + timedelta(seconds=3_100))
    bit_by_bit = rows(source)
    source.samples.exclude(resolution_s=10).delete()
    rolling.roll_up(START + timedelta(seconds=3_100))
    assert rows(source) == bit_by_bit
    assert len(bit_by_bit) == 50 + 5


def rows(source: Source) -> list[tuple[object, ...]]:
    coarse = source.samples.exclude(resolution_s=10)
    return list(coarse.order_by("resolution_s", "at").values_list("resolution_s", "at", "values"))


def test_holes_are_no_rows_and_a_batch_is_no_end(source, monkeypatch):
    monkeypatch.setattr(rolling, "BATCH", 61)
    monkeypatch.setattr(rolling, "COARSER", (60, 600))  # four hours are more than a batch
    fill(source, 200)
    fill(source, 200, begin=START + timedelta(days=1))
    rolling.roll_up(START + timedelta(days=2), budget_s=60)
    minutes = [at for resolution_s, at, _ in rows(source) if resolution_s == 60]
    assert len(minutes) == 2 * 34  # 33 whole ones and a third
    assert rows(source) == sorted(rows(source), key=lambda row: row[:2])
    tens = [values["keys"] for resolution_s, _, values in rows(source) if resolution_s == 600]
    assert tens[0] == [0.0, 29.5, 59.0]
    assert len(tens) == 8


def test_without_time_nothing_is_done_and_nothing_is_lost(source):
    fill(source, 100)
    assert rolling.roll_up(START + timedelta(days=5), budget_s=0) == 0
    # Old, but in no coarser sample yet.
    assert rolling.forget(START + timedelta(days=5)) == 0
    assert source.samples.count() == 100


def test_each_resolution_is_kept_as_long_as_is_said(source):
    fill(source, 360)
    now = START + timedelta(hours=1, seconds=30)
    rolling.roll_up(now)
    assert rolling.forget(now) == 0

    def left(age: timedelta) -> dict[int, int]:
        rolling.roll_up(START + age)
        rolling.forget(START + age)
        return {
            resolution_s: source.samples.filter(resolution_s=resolution_s).count()
            for resolution_s in rolling.KEPT
        }

    assert left(timedelta(days=2, minutes=30)) == {10: 180, 60: 60, 600: 6, 14_400: 1}
    assert left(timedelta(days=2, hours=2)) == {10: 0, 60: 60, 600: 6, 14_400: 1}
    assert left(timedelta(days=14, minutes=59)) == {10: 0, 60: 1, 600: 6, 14_400: 1}
    assert left(timedelta(days=400, hours=2)) == {10: 0, 60: 0, 600: 0, 14_400: 0}


def test_a_batch_holds_more_than_one_of_the_coarsest():
    assert max(rolling.KEPT) / 10 < rolling.BATCH


def test_it_can_be_stopped_between_batches(source, monkeypatch):
    monkeypatch.setattr(rolling, "DELETED_AT_ONCE", 50)
    fill(source, 360)
    rolling.roll_up(START + timedelta(hours=5), budget_s=60)
    assert rolling.forget(START + timedelta(days=3), budget_s=0) == 0
    assert rolling.forget(START + timedelta(days=3), budget_s=60) == 360
