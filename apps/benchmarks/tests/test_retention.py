from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.benchmarks import retention
from apps.benchmarks.models import BenchmarkRun, Measurement, Regression
from apps.benchmarks.retention import forget_old_runs

from .history import machine, measure, metric, runs

pytestmark = pytest.mark.django_db


def test_what_is_too_old_goes_with_what_it_measured():
    old = runs(3, end=timezone.now() - timedelta(days=11))
    new = runs(2)
    measure(metric(), old + new, [1.0] * 5)
    assert forget_old_runs(keep_days=10, keep_runs=100) == 3
    assert set(BenchmarkRun.objects.all()) == set(new)
    assert Measurement.objects.count() == 2


def test_no_more_than_so_many_are_kept_the_newest():
    newest_last = runs(5)
    assert forget_old_runs(keep_days=10, keep_runs=2) == 3
    assert set(BenchmarkRun.objects.all()) == set(newest_last[-2:])


def test_what_waits_runs_or_is_open_is_kept():
    long_ago = timezone.now() - timedelta(days=99)
    waiting = runs(1, end=long_ago, state="queued")
    running = runs(1, end=long_ago, state="running")
    suspected, closed = runs(2, end=long_ago)
    for run, state in [(suspected, "suspected"), (closed, "refuted")]:
        Regression.objects.create(
            metric=metric(), machine=machine(), run=run, state=state, ratio=1.2
        )
    assert forget_old_runs(keep_days=10, keep_runs=100) == 1
    assert set(BenchmarkRun.objects.all()) == {*waiting, *running, suspected}


def test_one_clean_up_is_bounded(monkeypatch):
    monkeypatch.setattr(retention, "MOST_AT_ONCE", 2)
    oldest = runs(5)
    assert forget_old_runs(keep_days=10, keep_runs=1) == 2
    assert not BenchmarkRun.objects.filter(pk__in=[run.pk for run in oldest[:2]]).exists()


@pytest.mark.parametrize("kept", [(0, 1), (1, 0)])
def test_all_is_never_forgotten(kept):
    with pytest.raises(ValueError, match="keep 1 or more"):
        forget_old_runs(*kept)
