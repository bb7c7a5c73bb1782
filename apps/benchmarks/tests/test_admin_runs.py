"""Runs in the admin: the button, a run's page, two runs beside each other."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
from celery import current_app
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from apps.benchmarks import recording
from apps.benchmarks.models import BenchmarkRun, Regression
from apps.benchmarks.queueing import QUEUE, TASK
from apps.benchmarks.tests import history
from tests.servers import RedisProcess

RUNS = "/admin/benchmarks/benchmarkrun/"


@pytest.fixture
def staff(engine, admin_client):
    return admin_client


@pytest.fixture
def broker(engine, redis_client):
    """The task's messages, in a real broker that nobody works for: the tests' one server."""
    return redis_client


def text(response) -> str:
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def page(run: BenchmarkRun) -> str:
    return f"{RUNS}{run.pk}/change/"


def test_an_empty_list_says_how_to_start(staff):
    assert "No run yet." in text(staff.get(RUNS))


def test_run_now_queues_a_run_and_sends_its_task(staff, broker):
    response = staff.post(f"{RUNS}run-now/", {"set": "quick"}, follow=True)
    assert "The quick set waits for a worker." in text(response)
    run = BenchmarkRun.objects.get()
    assert (run.state, run.trigger, run.set_name) == ("queued", "staff", "quick")
    assert run.requested_by.username == "admin"
    assert LogEntry.objects.get().object_id == str(run.pk)
    (message,) = [json.loads(item) for item in broker.lrange(QUEUE, 0, -1)]
    assert message["headers"]["task"] == TASK
    assert message["headers"]["argsrepr"] == f"[{run.pk}]"
    # A second click is no second run.
    again = staff.post(f"{RUNS}run-now/", {"set": "quick"}, follow=True)
    assert "waits already" in text(again)
    assert BenchmarkRun.objects.count() == 1


def test_a_set_that_is_not_there_is_refused(staff, broker):
    said = text(staff.post(f"{RUNS}run-now/", {"set": "everything"}, follow=True))
    assert "choose quick, full, analysis" in said
    assert not BenchmarkRun.objects.exists()


def test_without_a_broker_the_run_does_not_wait_for_ever(staff, monkeypatch):
    monkeypatch.setattr(current_app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    said = text(staff.post(f"{RUNS}run-now/", {"set": "full"}, follow=True))
    assert "Celery&#x27;s broker does not answer" in said
    assert BenchmarkRun.objects.get().state == "failed"


def test_a_frozen_broker_does_not_freeze_the_page(staff, monkeypatch):
    frozen = RedisProcess().start()
    try:
        monkeypatch.setattr(current_app.conf, "broker_write_url", frozen.url)
        frozen.pause()
        begun = time.monotonic()
        said = text(staff.post(f"{RUNS}run-now/", {"set": "quick"}, follow=True))
        assert "Celery&#x27;s broker does not answer" in said
        assert time.monotonic() - begun < 10  # 2 s; without a limit, never.
    finally:
        frozen.stop()


def test_again_is_the_same_and_no_rerun(staff, broker):
    run = BenchmarkRun.objects.create(state="done", trigger="command", chosen=["a", "b"])
    staff.post(f"{RUNS}{run.pk}/again/")
    again = BenchmarkRun.objects.first()
    assert (again.chosen, again.trigger, again.rerun_of) == (["a", "b"], "staff", None)


def test_what_waits_is_stopped_at_once(staff):
    run = BenchmarkRun.objects.create(state="queued", trigger="staff", set_name="full")
    where = staff.post(f"{RUNS}{run.pk}/stop/", {"next": RUNS})
    assert where.headers["Location"] == RUNS
    run.refresh_from_db()
    assert (run.state, run.ended_at is not None) == ("stopped", True)
    assert "There is nothing to stop" in text(staff.post(f"{RUNS}{run.pk}/stop/", follow=True))


def test_what_runs_keeps_its_place_until_its_worker_lets_go(staff):
    run = BenchmarkRun.objects.create(state="running", trigger="staff", seen_at=timezone.now())
    said = text(staff.post(f"{RUNS}{run.pk}/stop/", follow=True))
    assert "Stopping" in said
    assert "Stop it" not in said
    run.refresh_from_db()
    assert (run.state, run.stop_asked, run.ended_at) == ("running", True, None)
    with pytest.raises(recording.Busy):
        recording.record(BenchmarkRun.objects.create(trigger="staff", set_name="quick"))
    said = text(staff.get(RUNS))
    assert "Stopping" in said
    assert f"Stop run {run.pk}" not in said


def test_back_is_never_another_site(staff):
    run = BenchmarkRun.objects.create(state="queued", trigger="staff")
    where = staff.post(f"{RUNS}{run.pk}/stop/", {"next": "https://elsewhere.example/"})
    assert where.headers["Location"] == page(run)


def test_a_running_run_shows_its_progress_and_reloads_itself(staff):
    run = BenchmarkRun.objects.create(
        state="running",
        trigger="staff",
        set_name="quick",
        started_at=timezone.now() - timedelta(seconds=65),
        done=3,
        total=12,
        current="check-3",
    )
    said = text(staff.get(page(run)))
    assert "3 of 12 benchmarks; now check-3, for 1 min 5 s" in said
    assert 'aria-valuenow="25"' in said
    assert '<meta http-equiv="refresh"' in said
    assert "3 of 12, now check-3" in text(staff.get(RUNS))


@pytest.mark.parametrize("state", ["queued", "failed", "stopped", "lost", "done"])
def test_a_page_for_each_end(staff, state):
    run = BenchmarkRun.objects.create(
        state=state, trigger="staff", note="line one\nline two", errors=["it broke"]
    )
    said = text(staff.get(page(run)))
    assert run.get_state_display() in said
    assert "it broke" in said
    assert "line one<br>line two" in said
    assert ('<meta http-equiv="refresh"' in said) == (state == "queued")


def test_a_done_run_says_whether_it_can_be_trusted(staff):
    run, other = history.runs(2)
    metric = history.metric()
    history.measure(metric, [run, other], [123.456, 99.0])
    Regression.objects.create(metric=metric, machine=run.machine, run=run, ratio=1.2)
    said = text(staff.get(page(run)))
    for part in ("A CPU", "0.250", "1,234 us", "21.5 us", "123 us", "Samples from 111 to 173 us"):
        assert part in said, part
    assert f'<option value="{other.pk}">' in said
    assert "worse, suspected" in said
    assert '<line class="median"' in said


def test_a_run_costs_as_many_queries_with_many_metrics(staff, django_assert_max_num_queries):
    (run,) = history.runs(1)
    for number in range(50):
        history.measure(history.metric(f"check-{number}"), [run], [100.0])
    with django_assert_max_num_queries(16):
        staff.get(page(run))


def test_two_runs_side_by_side_the_worst_first(staff):
    old, new = history.runs(2)
    history.measure(history.metric("steady"), [old, new], [100.0, 101.0])
    history.measure(history.metric("slower"), [old, new], [100.0, 130.0])
    up = history.metric("requests", unit="requests/s", direction="higher")
    history.measure(up, [old, new], [100.0, 150.0])
    history.measure(history.metric("added"), [new], [1.0])
    history.measure(history.metric("gone"), [old], [1.0])
    response = staff.get(f"{RUNS}compare/?run={new.pk}&with={old.pk}")
    lines = response.context["found"].lines
    assert [line.metric.benchmark for line in lines] == ["slower", "steady", "requests"]
    assert [line.verdict for line in lines] == ["worse", "same", "better"]
    said = text(response)
    assert "1 worse, 1 better, 1 the same within 2 %." in said
    assert "▲ worse, over its threshold" in said
    assert "50 % faster" in said
    assert f"Only in run {new.pk}" in said
    assert f"Only in run {old.pk}" in said


def test_figures_of_0_are_no_error(staff):
    old, new = history.runs(2)
    history.measure(history.metric("errors"), [old, new], [3.0, 0.0])
    history.measure(history.metric("denied"), [old, new], [0.0, 2.0])
    response = staff.get(f"{RUNS}compare/?run={new.pk}&with={old.pk}")
    assert [line.verdict for line in response.context["found"].lines] == ["worse", "better"]
    assert "100 % faster" in text(response)
    assert text(staff.get("/admin/benchmarks/metric/trends/"))
    assert text(staff.get(page(new)))


def test_runs_of_different_machines_are_refused_with_the_reason(staff):
    (here,), (there,) = history.runs(1), history.runs(1, machine=history.machine("t", cores=8))
    history.measure(history.metric(), [here, there], [100.0, 50.0])
    said = text(staff.get(f"{RUNS}compare/?run={here.pk}&with={there.pk}"))
    assert "different machines (cores: 2 and 8)" in said
    assert "Times as bad" not in said
    waiting = BenchmarkRun.objects.create(state="queued", trigger="staff")
    said = text(staff.get(f"{RUNS}compare/?run={here.pk}&with={waiting.pk}"))
    assert "has no machine" in said


def test_a_run_beside_its_baseline(staff):
    metric, young = history.metric(), history.metric("young")
    runs = history.runs(21)
    history.measure(metric, runs, [100.0] * 20 + [120.0])
    history.measure(young, runs[-5:], [1.0] * 5)
    response = staff.get(f"{RUNS}compare/?run={runs[-1].pk}")
    (line,) = response.context["found"].lines
    assert (line.old, line.new, round(line.ratio, 2), line.old_n) == (100.0, 120.0, 1.2, 20)
    assert "Fewer than 10 runs to compare with" in text(response)
