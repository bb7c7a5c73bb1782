"""Taking turns, and what comes after."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from apps.monitoring import alerting, tasks, turns
from apps.monitoring.models import Sample, Source, Turn
from iota.celery import app

pytestmark = pytest.mark.django_db(transaction=True)


def test_one_at_a_time_and_the_late_one_is_dropped():
    with turns.turn("sample", 30) as first:
        assert first
        with turns.turn("sample", 30) as second:
            assert not second
        with turns.turn("roll up", 30) as other:
            assert other
    with turns.turn("sample", 30) as third:
        assert third


def test_a_worker_that_died_holds_it_for_no_longer_than_its_time():
    Turn.objects.create(job="sample", held_until=timezone.now() + timedelta(seconds=5))
    with turns.turn("sample", 30) as ours:
        assert not ours
    Turn.objects.update(held_until=timezone.now() - timedelta(seconds=1))
    with turns.turn("sample", 30) as ours:
        assert ours


def test_only_what_was_done_counts_as_done():
    assert turns.watch_state() is turns.Watch.NEVER
    with pytest.raises(ZeroDivisionError), turns.turn("sample", 30):
        raise ZeroDivisionError
    assert turns.watch_state() is turns.Watch.NEVER
    assert Turn.objects.get().held_until is None
    with turns.turn("sample", 30):
        pass
    assert turns.watch_state() is turns.Watch.OK
    Turn.objects.update(ended_at=timezone.now() - timedelta(seconds=61))
    assert turns.watch_state() is turns.Watch.LATE


def test_the_task_samples_and_then_says_so(engine, monkeypatch):
    called = []
    monkeypatch.setattr(alerting, "evaluate_all", called.append)
    tasks.sample()
    assert len(called) == 1
    assert Source.objects.filter(error="").count() == 3
    assert turns.watch_state() is turns.Watch.OK
    Turn.objects.update(held_until=timezone.now() + timedelta(seconds=5))
    tasks.sample()
    assert len(called) == 1
    tasks.roll_up()
    assert Sample.objects.count() == 3


def test_alerts_that_fail_cost_neither_the_samples_nor_the_next_round(engine, monkeypatch, caplog):
    def fail(now):
        raise RuntimeError("mistake")

    monkeypatch.setattr(alerting, "evaluate_all", fail)
    tasks.sample()
    assert "not evaluated" in caplog.text
    assert Sample.objects.count() == 3
    assert turns.watch_state() is turns.Watch.OK


def test_the_schedule_is_on_the_queue_of_its_own_and_piles_nothing_up():
    found = PeriodicTask.objects.filter(task__in=["monitoring.sample", "monitoring.roll_up"])
    rows = {row.task: row for row in found}
    assert len(rows) == 2
    for name, row in rows.items():
        assert row.interval.period == "seconds"
        assert row.expire_seconds <= row.interval.every
        assert app.conf.task_routes[name] == {"queue": tasks.QUEUE}
        assert app.tasks[name].soft_time_limit < app.tasks[name].time_limit <= 30
    assert rows["monitoring.sample"].interval.every == Sample.SAMPLE_S
