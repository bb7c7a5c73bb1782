from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from apps.benchmarks import handling, judging
from apps.benchmarks.models import (
    Baseline,
    BenchmarkRun,
    Machine,
    Measurement,
    Metric,
    Regression,
)

pytestmark = pytest.mark.django_db

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
STEADY = [100 + (place - 9.5) / 5 for place in range(20)]
State, Trigger = BenchmarkRun.State, BenchmarkRun.Trigger


@pytest.fixture
def machine() -> Machine:
    return Machine.objects.create(fingerprint="m1", fields={}, name="lab")


@pytest.fixture
def metric() -> Metric:
    return make_metric("check")


def make_metric(name: str, **fields) -> Metric:
    defaults = {"suite": "limiter", "benchmark": name, "metric": "time", "unit": "us"}
    return Metric.objects.create(digest=name, **{**defaults, "direction": "lower", **fields})


def record(
    machine: Machine,
    values: dict[Metric, float],
    day: float,
    *,
    run: BenchmarkRun | None = None,
    branch: str = "main",
    **fields,
) -> BenchmarkRun:
    """A run that ended, ``day`` days after the first Monday, with these medians."""
    at = MONDAY + timedelta(days=day)
    run = run or BenchmarkRun()
    facts = {"state": State.DONE, "trigger": run.trigger or Trigger.SCHEDULE, "branch": branch}
    for name, value in {**facts, "machine": machine, "started_at": at, **fields}.items():
        setattr(run, name, value)
    run.save()
    for metric, value in values.items():
        figures = ("minimum", "p50", "p95", "p99", "maximum", "mean")
        Measurement.objects.create(
            run=run, metric=metric, machine=machine, branch=branch, taken_at=at, n=1,
            deviation=0, mad=0, **dict.fromkeys(figures, value),
        )  # fmt: skip
    return run


def history(machine: Machine, metrics: Iterable[Metric], values=STEADY, **fields) -> None:
    for day, value in enumerate(values):
        record(machine, dict.fromkeys(metrics, value), day, **fields)


class Reruns:
    """Rows such as the worker makes, which the test then brings to an end."""

    def __init__(self) -> None:
        self.made: list[BenchmarkRun] = []
        self.asked: list[list[str]] = []

    def __call__(self, run: BenchmarkRun, count: int) -> None:
        names = judging.names_to_rerun(run)
        self.asked.append(names)
        for _ in range(count):
            rerun = BenchmarkRun(trigger=Trigger.RERUN, rerun_of=run, chosen=names)
            rerun.save()
            self.made.append(rerun)


@pytest.fixture
def reruns() -> Reruns:
    return Reruns()


def end(reruns: Reruns, machine: Machine, *values: dict[Metric, float], day=30.1, **fields):
    """The reruns' results; what the last one settled."""
    settled = []
    for rerun, found in zip(reruns.made, values, strict=True):
        record(machine, found, day, run=rerun, **fields)
        settled = judging.judge_run(rerun, reruns)
    return settled


def test_a_run_like_those_before_it_opens_nothing(machine, metric, reruns):
    history(machine, [metric])
    assert judging.judge_run(record(machine, {metric: 104}, 30), reruns) == []
    assert reruns.asked == []


def test_a_slow_run_is_suspected_and_rerun_four_times_by_its_benchmarks(machine, metric, reruns):
    other, third = make_metric("fetch"), make_metric("steady")
    history(machine, [metric, other, third])
    run = record(machine, {metric: 125, other: 130, third: 100}, 30)
    opened = judging.judge_run(run, reruns)
    assert {(found.metric, found.state, found.better) for found in opened} == {
        (metric, "suspected", False),
        (other, "suspected", False),
    }
    assert reruns.asked == [["check", "fetch"]]
    assert len(reruns.made) == 4
    assert opened[0].ratio == 1.25
    assert opened[0].evidence["sentence"] == "25 % slower than the last 20 runs, suspected"
    assert opened[0].evidence["baseline_medians"] == STEADY


def test_judging_again_neither_opens_nor_reruns_again(machine, metric, reruns):
    history(machine, [metric])
    run = record(machine, {metric: 125}, 30)
    judging.judge_run(run, reruns)
    assert judging.judge_run(run, reruns) == []
    end(reruns, machine, *[{metric: 100}] * 4)
    assert judging.judge_run(run, reruns) == []
    assert Regression.objects.get().state == "refuted"
    assert len(reruns.asked) == 1


def test_where_reruns_cannot_be_made_nothing_is_opened(machine, metric, reruns):
    history(machine, [metric])
    run = record(machine, {metric: 125}, 30)

    def full(run, count):
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        judging.judge_run(run, full)
    assert len(judging.judge_run(run, reruns)) == 1


@pytest.mark.parametrize(
    ("direction", "value", "better"),
    [("lower", 80, True), ("higher", 80, False), ("higher", 125, True)],
)
def test_better_and_worse_follow_the_metrics_direction(machine, reruns, direction, value, better):
    metric = make_metric("m", direction=direction, unit="requests/s")
    history(machine, [metric])
    (found,) = judging.judge_run(record(machine, {metric: value}, 30), reruns)
    assert found.better is better


def test_nothing_is_said_below_ten_runs(machine, metric, reruns):
    history(machine, [metric], STEADY[:9])
    assert judging.judge_run(record(machine, {metric: 300}, 30), reruns) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"branch": "feature"},
        {"dirty": True},
        {"state": State.STOPPED},
        {"state": State.LOST},
        {"trigger": Trigger.RERUN},
    ],
)
def test_what_is_no_past_of_a_run_is_not_compared_with(machine, metric, reruns, fields):
    history(machine, [metric], [50.0] * 20, **fields)
    history(machine, [metric], STEADY[:9])
    assert judging.baseline(metric, machine, "main") == STEADY[:9]
    assert judging.judge_run(record(machine, {metric: 101}, 30), reruns) == []


def test_another_machine_is_another_series(machine, metric, reruns):
    history(machine, [metric])
    other = Machine.objects.create(fingerprint="m2", fields={})
    assert judging.judge_run(record(other, {metric: 300}, 30), reruns) == []


def test_a_run_of_edited_files_is_judged(machine, metric, reruns):
    history(machine, [metric])
    assert judging.judge_run(record(machine, {metric: 125}, 30, dirty=True), reruns)


@pytest.mark.parametrize(
    "fields",
    [{"trigger": Trigger.IMPORT}, {"trigger": Trigger.LOCUST}, {"state": State.FAILED}],
)
def test_what_cannot_be_rerun_is_not_judged(machine, metric, reruns, fields):
    history(machine, [metric])
    assert judging.judge_run(record(machine, {metric: 125}, 30, **fields), reruns) == []


def test_a_metrics_threshold_is_its_own(machine, reruns):
    lax, strict = make_metric("lax", threshold_percent=50), make_metric("strict")
    history(machine, [lax, strict])
    (found,) = judging.judge_run(record(machine, {lax: 125, strict: 125}, 30), reruns)
    assert found.metric == strict


# Settling


def test_four_slow_reruns_confirm_and_the_admins_are_told_once(
    machine, metric, reruns, settings, django_capture_on_commit_callbacks
):
    settings.ADMINS = [("Ada", "ada@example.com")]
    history(machine, [metric])
    judging.judge_run(record(machine, {metric: 125}, 30, commit="c" * 40), reruns)
    slow = [{metric: value} for value in (124, 126, 123, 127)]
    with django_capture_on_commit_callbacks(execute=True):
        (found,) = end(reruns, machine, *slow, commit="c" * 40)
    assert (found.state, found.better) == ("confirmed", False)
    assert found.p_value < 0.01
    assert found.confirmed_at is not None
    assert found.evidence["new_medians"] == [125, 124, 126, 123, 127]
    assert found.evidence["sentence"] == "25 % slower than the last 20 runs, confirmed"
    (message,) = mail.outbox
    assert "25 % slower" in message.subject
    assert f"/admin/benchmarks/regression/{found.pk}/change/" in message.body
    with django_capture_on_commit_callbacks(execute=True):
        assert judging.judge_run(reruns.made[-1], reruns) == []
    assert len(mail.outbox) == 1


def test_it_waits_for_the_last_rerun(machine, metric, reruns):
    history(machine, [metric])
    judging.judge_run(record(machine, {metric: 125}, 30), reruns)
    for rerun in reruns.made[:3]:
        record(machine, {metric: 125}, 30.1, run=rerun)
        assert judging.judge_run(rerun, reruns) == []
    assert Regression.objects.get().state == "suspected"


def test_reruns_as_ever_refute_and_nobody_is_told(
    machine, metric, reruns, settings, django_capture_on_commit_callbacks
):
    settings.ADMINS = [("Ada", "ada@example.com")]
    history(machine, [metric])
    judging.judge_run(record(machine, {metric: 125}, 30), reruns)
    with django_capture_on_commit_callbacks(execute=True):
        (found,) = end(reruns, machine, *[{metric: value} for value in (101.1, 99.3, 98.7, 103)])
    assert found.state == "refuted"
    assert found.closed_at is not None
    assert found.evidence["sentence"] == "1 % slower than the last 20 runs, not confirmed"
    assert mail.outbox == []


def test_suspects_of_one_run_are_settled_together(machine, metric, reruns):
    other = make_metric("fetch")
    history(machine, [metric, other])
    judging.judge_run(record(machine, {metric: 125, other: 125}, 30), reruns)
    slow = [{metric: value, other: 100.05} for value in (124, 126, 123, 127)]
    first, second = sorted(end(reruns, machine, *slow), key=lambda found: found.metric_id)
    assert (first.state, second.state) == ("confirmed", "refuted")
    assert first.evidence["adjusted_p"] == pytest.approx(2 * first.evidence["p"])


@pytest.mark.parametrize("fields", [{"commit": "d" * 40}, {"state": State.LOST}, {"dirty": True}])
def test_reruns_that_say_nothing_of_the_suspect_do_not_confirm_it(machine, metric, reruns, fields):
    history(machine, [metric])
    judging.judge_run(record(machine, {metric: 125}, 30, commit="c" * 40), reruns)
    for rerun in reruns.made[:3]:
        record(machine, {metric: 125}, 30.1, run=rerun, commit="c" * 40)
    record(machine, {metric: 125}, 30.2, run=reruns.made[3], **{"commit": "c" * 40, **fields})
    (found,) = judging.judge_run(reruns.made[3], reruns)
    assert found.state == "refuted"
    assert found.evidence["sentence"] == "Insufficient data: 4 of 5 runs repeated it"


def test_reruns_are_not_part_of_the_next_runs_past(machine, metric, reruns):
    history(machine, [metric])
    judging.judge_run(record(machine, {metric: 125}, 30), reruns)
    end(reruns, machine, *[{metric: 90}] * 4)
    assert judging.baseline(metric, machine, "main") == [*STEADY[1:], 125]


def test_one_open_regression_of_a_series_is_enough(machine, metric, reruns):
    history(machine, [metric])
    judging.judge_run(record(machine, {metric: 125}, 30), reruns)
    assert judging.judge_run(record(machine, {metric: 140}, 37), reruns) == []
    assert len(judging.judge_run(record(machine, {metric: 70}, 44), reruns)) == 1


def test_what_no_worker_settled_is_settled_later(machine, metric, reruns):
    history(machine, [metric])
    run = record(machine, {metric: 125}, 30)
    judging.judge_run(run, reruns)
    assert judging.settle_waiting() == []
    for rerun in reruns.made:
        record(machine, {metric: 125}, 30.1, run=rerun)
    assert [found.state for found in judging.settle_waiting()] == ["confirmed"]
    assert judging.settle_waiting() == []


def test_a_suspect_whose_run_was_deleted_is_closed(machine, metric, reruns):
    history(machine, [metric])
    run = record(machine, {metric: 125}, 30)
    judging.judge_run(run, reruns)
    run.delete()
    judging.settle_waiting()
    assert Regression.objects.get().state == "refuted"


# Later


def test_after_a_new_baseline_ten_runs_are_needed_again(machine, metric, reruns, admin_user):
    history(machine, [metric])
    (found,) = judging.judge_run(record(machine, {metric: 125}, 30), reruns)
    handling.accept_as_baseline(found, admin_user, "a feature")
    assert judging.baseline(metric, machine, "main") == [125]
    for day in range(31, 40):
        assert judging.judge_run(record(machine, {metric: 125}, day), reruns) == []
    assert judging.judge_run(record(machine, {metric: 126}, 41), reruns) == []
    assert len(judging.judge_run(record(machine, {metric: 160}, 42), reruns)) == 1
    assert Baseline.objects.get().since == MONDAY + timedelta(days=30)


def test_what_was_ignored_returns_only_when_it_goes_further(machine, metric, reruns, admin_user):
    history(machine, [metric])
    (found,) = judging.judge_run(record(machine, {metric: 125}, 30), reruns)
    handling.ignore(found, admin_user, "known")
    assert judging.judge_run(record(machine, {metric: 127}, 37), reruns) == []
    assert len(judging.judge_run(record(machine, {metric: 145}, 44), reruns)) == 1


def test_an_ignored_metric_is_not_judged(machine, metric, reruns, admin_user):
    history(machine, [metric])
    handling.ignore_metric(metric, admin_user, "too noisy")
    run = record(machine, {metric: 125}, 30)
    assert judging.judge_run(run, reruns) == []
    handling.judge_metric(metric, admin_user)
    assert len(judging.judge_run(run, reruns)) == 1


def test_of_a_long_history_the_last_twenty_runs_are_read(machine, metric):
    runs = BenchmarkRun.objects.bulk_create(
        BenchmarkRun(state=State.DONE, trigger=Trigger.SCHEDULE, branch="main", machine=machine)
        for _ in range(2_000)
    )
    figures = dict.fromkeys(("minimum", "p95", "p99", "maximum", "mean", "deviation", "mad"), 1)
    Measurement.objects.bulk_create(
        Measurement(
            run=run, metric=metric, machine=machine, branch="main", n=1, p50=number + 1,
            taken_at=MONDAY + timedelta(minutes=number), **figures,
        )
        for number, run in enumerate(runs)
    )  # fmt: skip
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert judging.baseline(metric, machine, "main") == [*range(1_981, 2_001)]
    assert len(queries) == 2
    assert "LIMIT 20" in queries[-1]["sql"]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {queries[-1]['sql']}")
            plan = " ".join(str(row) for row in cursor.fetchall())
        assert "benchmarks_trend" in plan
        assert "TEMP B-TREE" not in plan


@pytest.mark.django_db(transaction=True)
def test_two_workers_that_judge_at_once_open_and_rerun_once(machine, metric):
    history(machine, [metric])
    run = record(machine, {metric: 125}, 30)
    reruns, together = Reruns(), threading.Barrier(4)
    opened: list[Regression] = []

    def judge() -> None:
        try:
            together.wait(timeout=20)
            opened.extend(judging.judge_run(BenchmarkRun.objects.get(pk=run.pk), reruns))
        finally:
            connections.close_all()

    workers = [threading.Thread(target=judge) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert len(opened) == 1
    assert len(reruns.asked) == 1
    assert BenchmarkRun.objects.filter(rerun_of=run).count() == 4
