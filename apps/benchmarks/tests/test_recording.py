"""Runs of stand-in benchmarks, recorded on a real Valkey."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from apps.benchmarks import recording, servers
from apps.benchmarks.models import BenchmarkRun, Measurement, Metric
from apps.benchmarks.records import Direction
from apps.benchmarks.registry import Registry, Samples
from apps.benchmarks.targets import Target
from tests import databases

pytestmark = pytest.mark.django_db
State = BenchmarkRun.State


@pytest.fixture
def registry(monkeypatch):
    made = Registry()
    monkeypatch.setattr(recording, "load_suites", lambda: made)
    return made


def add(registry, name, run, **more):
    words = {"suite": "limiter", "metric": "time", "unit": "us", "direction": Direction.LOWER}
    registry(name, **{**words, **more})(run)


def queued(**changes):
    values = {"trigger": "staff", "set_name": "quick", **changes}
    return BenchmarkRun.objects.create(**values)


def measured(*samples):
    return lambda given: Samples({"iota": samples, "floor": (1.0,)})


def test_a_run_has_where_when_and_of_what_it_was_and_what_it_measured(registry):
    add(registry, "check", measured(3.0, 1.0, 2.0), sets=("quick",), parameters={"limits": 3})
    add(registry, "other", measured(9.0), sets=("full",))
    run = recording.record(queued())
    assert (run.state, run.done, run.total, run.current, run.errors) == (State.DONE, 1, 1, "", [])
    assert len(run.commit) in (0, 40)
    assert run.started_at < run.ended_at
    assert run.machine.fields["cores"] >= 1
    assert min(run.loop_us, run.ping_us) > 0
    taken = run.measurements.get(metric__contestant="iota")
    assert (taken.n, taken.minimum, taken.p50, taken.maximum, taken.mad) == (3, 1, 2, 3, 1)
    assert (taken.samples, taken.taken_at) == ([3, 1, 2], run.started_at)
    assert (taken.machine, taken.branch) == (run.machine, run.branch)
    metric = taken.metric
    assert (metric.suite, metric.benchmark, metric.metric) == ("limiter", "check", "time")
    assert (metric.parameters, metric.unit, metric.direction) == ({"limits": 3}, "us", "lower")


def test_a_metric_is_the_same_row_next_time_and_another_with_other_parameters(registry):
    add(registry, "check", measured(1.0), sets=("quick",), parameters={"limits": 3})
    for _ in range(2):
        recording.record(queued())
    assert Metric.objects.count() == 2
    assert Measurement.objects.count() == 4
    again = Registry()
    add(again, "check", measured(1.0), sets=("quick",), parameters={"limits": 4})
    recording.record(queued(), again.named([]))
    assert Metric.objects.count() == 4


def test_what_ours_is_measured_beside_is_kept_and_not_judged(registry):
    add(registry, "check", measured(1.0), sets=("quick",), targets=(Target("what", "floor"),))
    recording.record(queued())
    assert set(Metric.objects.values_list("contestant", "ignored")) == {
        ("iota", False),
        ("floor", True),
    }


def test_an_error_ends_one_benchmark_and_its_text_is_bounded(registry):
    def broken(given):
        raise OSError("x" * 10_000)

    add(registry, "broken", broken, sets=("quick",))
    add(registry, "check", measured(1.0), sets=("quick",))
    run = recording.record(queued())
    assert (run.state, run.done) == (State.DONE, 2)
    assert run.errors[0].startswith("broken: OSError: xxx")
    assert len(run.errors[0]) == recording.MAX_ERROR_CHARS
    assert run.measurements.filter(metric__benchmark="check").exists()


def test_a_run_that_could_measure_nothing_has_failed(registry, monkeypatch):
    def broken(given):
        raise OSError("gone")

    add(registry, "broken", broken, sets=("quick",))
    assert recording.record(queued()).state == State.FAILED
    assert recording.record(queued(set_name="", chosen=["none"])).errors[0].startswith("UnknownB")
    monkeypatch.setattr(servers, "get_binary_path", lambda: "/bin/false")
    run = recording.record(queued())
    assert (run.state, run.errors[0][:12]) == (State.FAILED, "ServerFailed")
    assert not Measurement.objects.exists()


def test_a_stop_is_heard_between_two_benchmarks_and_nothing_is_kept(registry):
    begun = []

    def stopping(given):
        begun.append("stopping")
        BenchmarkRun.objects.update(stop_asked=True)
        return Samples({"iota": (1.0,)})

    add(registry, "stopping", stopping, sets=("quick",))
    add(registry, "next", lambda given: begun.append("next"), sets=("quick",))
    run = recording.record(queued())
    assert (run.state, begun) == (State.STOPPED, ["stopping"])
    assert not Measurement.objects.exists()


def test_a_stop_during_the_last_benchmark_counts_too(registry):
    def stopping(given):
        BenchmarkRun.objects.update(stop_asked=True)
        return Samples({"iota": (1.0,)})

    add(registry, "stopping", stopping, sets=("quick",))
    assert recording.record(queued()).state == State.STOPPED
    assert not Measurement.objects.exists()


def test_a_run_that_waits_no_longer_is_left_alone(registry):
    run = queued(state=State.STOPPED)
    assert recording.record(run).state == State.STOPPED
    assert run.started_at is None


def test_two_never_measure_at_once(registry):
    add(registry, "check", measured(1.0), sets=("quick",))
    other = queued(state=State.RUNNING, seen_at=timezone.now())
    run = queued()
    with pytest.raises(recording.Busy, match=f"run {other.pk} is being measured"):
        recording.record(run)
    run.refresh_from_db()
    assert run.state == State.QUEUED
    BenchmarkRun.objects.filter(pk=other.pk).update(state=State.DONE)
    assert recording.record(run).state == State.DONE


def test_an_interrupt_leaves_nothing_running(registry):
    def interrupted(given):
        raise KeyboardInterrupt

    add(registry, "interrupted", interrupted, sets=("quick",))
    run = queued()
    with pytest.raises(KeyboardInterrupt):
        recording.record(run)
    run.refresh_from_db()
    assert (run.state, run.note) == (State.STOPPED, "Interrupted.")


def test_progress_is_told_and_stored_as_it_goes(registry):
    seen, told = [], []

    def look(given):
        run = BenchmarkRun.objects.get()
        seen.append((run.state, run.done, run.total, run.current))
        return Samples({"iota": (1.0,)})

    add(registry, "one", look, sets=("quick",))
    add(registry, "two", look, sets=("quick",))
    recording.record(queued(), report=lambda *what: told.append(what))
    assert seen == [("running", 0, 2, "one"), ("running", 1, 2, "two")]
    assert told == [(0, 2, "one"), (1, 2, "two"), (2, 2, "")]


def test_a_run_without_a_sign_of_life_is_lost_and_others_may_go_on(registry):
    now = timezone.now()
    late = now - timedelta(seconds=recording.LOST_AFTER_S + 1)
    dead = queued(state=State.RUNNING, seen_at=late)
    forgotten = queued(queued_at=now - recording.NEVER_STARTED_AFTER - timedelta(seconds=1))
    waiting = queued()
    assert recording.mark_lost() == 2
    for run, state in [(dead, "lost"), (forgotten, "lost"), (waiting, "queued")]:
        run.refresh_from_db()
        assert run.state == state
    alive = queued(state=State.RUNNING, seen_at=now)
    assert recording.mark_lost() == 0
    alive.refresh_from_db()
    assert alive.state == State.RUNNING


def test_samples_are_bounded_and_figures_are_of_all_of_them(registry):
    samples = tuple(float(n) for n in range(1001))
    add(registry, "check", measured(*samples), sets=("quick",))
    taken = recording.record(queued()).measurements.get(metric__contestant="iota")
    assert (taken.n, len(taken.samples)) == (1001, recording.MAX_SAMPLES)
    assert (taken.samples[0], taken.samples[-1], taken.p50) == (0, 1000, 500)


@pytest.mark.django_db(transaction=True)
def test_a_long_benchmark_shows_that_its_worker_lives(registry, monkeypatch, django_db_blocker):
    monkeypatch.setattr(recording, "HEARTBEAT_S", 0.02)
    stale = timezone.now() - timedelta(hours=1)

    def long(given):
        BenchmarkRun.objects.update(seen_at=stale)
        for _ in range(500):
            if BenchmarkRun.objects.get().seen_at > stale:
                return Samples({"iota": (1.0,)})
            given.client.blpop("nothing", 0.02)
        raise AssertionError("no heartbeat in 10 s")

    add(registry, "long", long, sets=("quick",))
    run = recording.record(queued())
    assert (run.state, run.errors) == (State.DONE, [])


@pytest.mark.django_db(transaction=True)
def test_after_the_database_was_away_it_shows_so_again(registry, monkeypatch, django_db_blocker):
    if databases.server is None:
        pytest.skip("a file is not away")
    monkeypatch.setattr(recording, "HEARTBEAT_S", 0.02)
    stale = timezone.now() - timedelta(hours=1)

    def seen(given):
        BenchmarkRun.objects.update(seen_at=stale)
        for _ in range(500):
            if BenchmarkRun.objects.get().seen_at > stale:
                return
            given.client.blpop("nothing", 0.02)
        raise AssertionError("no heartbeat in 10 s")

    def long(given):
        seen(given)
        with connection.cursor() as cursor:
            others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = %s"
            name = connection.settings_dict["NAME"]
            cursor.execute(f"SELECT count(pg_terminate_backend(pid)) {others}", [name])
            assert cursor.fetchone()[0] > 0
        seen(given)
        return Samples({"iota": (1.0,)})

    add(registry, "long", long, sets=("quick",))
    run = recording.record(queued())
    assert (run.state, run.errors) == (State.DONE, [])
