"""What the tasks decide; a real worker runs them in tests/test_benchmark_worker.py."""

from __future__ import annotations

import importlib
import json
import sys
from datetime import timedelta

import pytest
from celery import current_app
from celery.exceptions import Retry
from django.apps import apps
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from apps.benchmarks import recording, revision, series, tasks
from apps.benchmarks.models import BenchmarkRun, Regression
from apps.benchmarks.records import Direction
from apps.benchmarks.registry import Registry, Samples

from .history import measure, noisy, runs

pytestmark = pytest.mark.django_db
RECORD = "benchmarks.record_benchmark_history"


@pytest.fixture
def sent(monkeypatch):
    """Messages, kept from the broker."""
    found = []
    monkeypatch.setattr(tasks, "enqueue", lambda run: found.append(run.pk))
    return found


@pytest.fixture
def slow(monkeypatch):
    """A benchmark that has become twice as slow as its history."""
    registry = Registry()
    words = {"suite": "ours", "metric": "time", "unit": "us", "direction": Direction.LOWER}
    registry("check", **words, sets=("quick",))(lambda given: Samples({"iota": (200.0,)}))
    monkeypatch.setattr(recording, "load_suites", lambda: registry)
    first = BenchmarkRun.objects.create(trigger="import", set_name="quick")
    recording.record(first)
    one = first.measurements.get()
    first.delete()
    measure(one.metric, runs(20, machine=one.machine, branch=one.branch), noisy(20))
    return one.metric


def test_a_scheduled_run_is_of_its_set(slow):
    tasks.record_benchmark_history(set_name="quick")
    run = BenchmarkRun.objects.exclude(trigger="rerun").latest("pk")
    assert (run.trigger, run.set_name, run.state) == ("schedule", "quick", "done")


def test_a_suspect_is_repeated_by_four_runs_that_settle_it(
    slow, sent, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        tasks.record_benchmark_history(set_name="quick")
    reruns = BenchmarkRun.objects.filter(trigger="rerun").order_by("pk")
    assert [run.chosen for run in reruns] == [["check"]] * 4
    assert sent == [run.pk for run in reruns]
    for run in reruns:
        assert Regression.objects.get().state == "suspected"
        tasks.record_benchmark_history(run.pk)
    assert Regression.objects.get().state == "confirmed"


def test_a_row_of_the_schedule_may_name_benchmarks(slow):
    tasks.record_benchmark_history(benchmarks=["check"])
    run = BenchmarkRun.objects.exclude(trigger="rerun").latest("pk")
    assert (run.set_name, run.chosen, run.state) == ("", ["check"], "done")


def test_reruns_that_no_broker_takes_have_failed_and_their_suspect_is_not_confirmed(
    slow, monkeypatch, django_capture_on_commit_callbacks
):
    monkeypatch.setattr(current_app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    with django_capture_on_commit_callbacks(execute=True):
        tasks.record_benchmark_history(set_name="quick")
    reruns = BenchmarkRun.objects.filter(trigger="rerun")
    assert {(run.state, run.note.splitlines()[-1]) for run in reruns} == {
        ("failed", "Celery's broker did not answer.")
    }
    tasks.watch_runs()
    assert Regression.objects.get().state == "refuted"


def test_what_a_dead_worker_left_unjudged_is_judged_and_repeated(
    slow, sent, monkeypatch, django_capture_on_commit_callbacks
):
    """It died between the run's end and its judgement."""
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "judge_run", lambda run, rerun: sys.exit())
        with pytest.raises(SystemExit):
            tasks.record_benchmark_history(set_name="quick")
    run = BenchmarkRun.objects.latest("pk")
    assert (run.state, run.judged_at) == ("done", None)
    tasks.watch_runs()
    assert not Regression.objects.exists()  # Its worker may be about to.
    BenchmarkRun.objects.filter(pk=run.pk).update(ended_at=timezone.now() - timedelta(minutes=3))
    for _ in range(2):
        with django_capture_on_commit_callbacks(execute=True):
            tasks.watch_runs()
    assert Regression.objects.get().run == run
    assert len(sent) == 4
    run.refresh_from_db()
    assert run.judged_at is not None


def test_a_mail_that_could_not_leave_is_sent_with_the_next_watch(slow, sent, settings, mailoutbox):
    settings.ADMINS = [("", "ada@example.com")]
    tasks.record_benchmark_history(set_name="quick")
    Regression.objects.update(
        state="confirmed",
        evidence={"sentence": "", "baseline_median": 1.0, "new_median": 2.0, "new_n": 5, "n": 20}
        | {"adjusted_p": 0.001},
    )
    tasks.watch_runs()
    tasks.watch_runs()
    assert len(mailoutbox) == 1


def test_after_a_run_no_page_looks_for_changes_of_level_itself(slow, sent, monkeypatch):
    monkeypatch.setattr(revision, "current", lambda: revision.Revision("a" * 40, False, "main"))
    tasks.record_benchmark_history(set_name="quick")
    monkeypatch.setattr(series.rule, "change_points", None)
    run = BenchmarkRun.objects.filter(trigger="schedule").latest("pk")
    assert series.Series(slow, run.machine, run.branch).change_points is not None


def test_a_rerun_is_as_long_as_what_it_repeats():
    first = BenchmarkRun(set_name="quick")
    assert recording.rounds_of(BenchmarkRun(chosen=["check"], rerun_of=first)) == 7
    assert recording.rounds_of(BenchmarkRun(chosen=["check"])) == 15


def test_it_waits_while_another_is_measured_and_is_the_same_run_then(monkeypatch):
    asked = {}

    def retry(**options):
        asked.update(options)
        return Retry()

    monkeypatch.setattr(tasks.record_benchmark_history, "retry", retry)
    BenchmarkRun.objects.create(trigger="staff", state="running", seen_at=timezone.now())
    with pytest.raises(Retry):
        tasks.record_benchmark_history(set_name="quick")
    waiting = BenchmarkRun.objects.get(state="queued")
    assert (asked["args"], asked["kwargs"]) == ((waiting.pk,), {})


def test_a_run_that_was_deleted_meanwhile_is_nothing_to_do():
    assert tasks.record_benchmark_history(12345) is None
    assert not BenchmarkRun.objects.exists()


def migrate_schedule():
    importlib.import_module("apps.benchmarks.migrations.0003_schedule").schedule(apps, None)


def test_the_schedule_is_there_and_names_tasks_that_exist():
    rows = PeriodicTask.objects.filter(name__startswith="Benchmarks: ")
    assert rows.count() == 4
    current_app.loader.import_default_modules()
    for row in rows:
        task = current_app.tasks[row.task]
        assert row.enabled
        assert set(json.loads(row.kwargs)) <= set(task.run.__code__.co_varnames)
    sets = {json.loads(row.kwargs)["set_name"] for row in rows.filter(task=RECORD)}
    assert sets == {"full", "analysis"}


def test_the_migration_leaves_what_staff_made_of_the_schedule():
    row = PeriodicTask.objects.get(task="benchmarks.forget_old_runs")
    row.kwargs = json.dumps({"keep_days": 30})
    row.save()
    migrate_schedule()
    row.refresh_from_db()
    assert json.loads(row.kwargs) == {"keep_days": 30}
    assert PeriodicTask.objects.filter(name__startswith="Benchmarks: ").count() == 4


def test_measuring_has_a_queue_of_its_own():
    route = current_app.amqp.router.route({}, RECORD)
    assert route["queue"].name == "benchmarks"
