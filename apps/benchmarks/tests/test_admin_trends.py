"""The page of trends: its verdict, its table, what is drawn, and how fast it opens."""

from __future__ import annotations

import csv
import io
import json
import timeit
from datetime import timedelta

import pytest
from django.apps import apps
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.benchmarks.models import Annotation, Baseline, Metric, Regression
from apps.benchmarks.series import Series, remember_levels
from apps.benchmarks.tests import history

TRENDS = "/admin/benchmarks/metric/trends/"
MANY = 10_000


@pytest.fixture
def staff(engine, admin_client):
    cache.clear()
    return admin_client


def stepped(number: int, step: int, ratio: float) -> list[float]:
    values = history.noisy(number)
    return [value * (ratio if place >= step else 1) for place, value in enumerate(values)]


def text(response) -> str:
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def points(response) -> dict[str, list[dict[str, object]]]:
    made = json.loads(response.context["chart_data"])
    return {one["label"]: one["data"] for one in made["datasets"]}


def test_without_a_run_it_says_how_to_get_one(staff):
    assert "Nothing has been measured yet." in text(staff.get(TRENDS))
    metric = history.metric()
    said = text(staff.get(f"{TRENDS}?metric={metric.pk}"))
    assert "check time has not been measured yet." in said
    assert "manage.py benchmark run --set quick" in said


def test_few_runs_are_insufficient(staff):
    runs = history.runs(4)
    history.measure(history.metric(), runs, [100.0, 101.0, 99.0, 100.0])
    response = staff.get(TRENDS)
    assert "Insufficient data: 3 of 10 runs to compare with." in text(response)
    assert "Band" not in points(response)


def test_a_steady_series_is_green(staff):
    history.measure(history.metric(), history.runs(30), [100.0] * 29 + [102.0])
    response = staff.get(TRENDS)
    verdict = response.context["verdict"]
    assert (verdict.level, "2 % slower" in verdict.text) == ("fine", True)
    assert {"Band", "Baseline", "Spread", "Median of a run"} <= points(response).keys()
    assert points(response)["Baseline"][0]["y"] == 100.0


def test_a_change_of_level_is_told_with_its_commit_and_not_as_confirmed(staff):
    runs = history.runs(40)
    history.measure(history.metric(), runs, stepped(40, 30, 1.25))
    response = staff.get(TRENDS)
    assert (
        response.context["verdict"].text
        == f"24 % slower since {runs[30].commit[:7]}, not confirmed."
    )
    assert response.context["verdict"].level == "suspect"
    assert "■ another level begins" in text(response)
    tops = [dot for dot in points(response)["Level changes"] if dot.get("said")]
    assert [dot["x"] for dot in tops] == [round(runs[30].started_at.timestamp() * 1000)]


def test_levels_are_the_same_whatever_the_period_and_may_be_found_beforehand(
    staff, django_assert_num_queries
):
    runs = history.runs(24 * 9)
    metric = history.metric()
    history.measure(metric, runs, stepped(len(runs), 100, 1.25))
    remember_levels(runs[-1])
    series = Series(metric, runs[0].machine, "main")
    with django_assert_num_queries(0):
        assert series.level_starts(newest=runs[-1].pk) == [runs[100].pk]
    for period in ("7", "all"):
        series = staff.get(f"{TRENDS}?period={period}").context["series"]
        assert [series.points[place].run for place in series.change_points] == [runs[100].pk]


def test_less_throughput_is_slower(staff):
    metric = history.metric(unit="requests/s", direction="higher")
    history.measure(metric, history.runs(40), stepped(40, 30, 0.75))
    verdict = staff.get(TRENDS).context["verdict"]
    assert verdict.text.startswith("25 % slower since")
    assert verdict.level == "suspect"


@pytest.mark.parametrize(
    ("state", "better", "said", "level"),
    [
        ("suspected", False, "suspected, not confirmed", "suspect"),
        ("confirmed", False, "confirmed", "bad"),
        ("acknowledged", False, "confirmed, and acknowledged", "bad"),
        ("confirmed", True, "confirmed", "good"),
    ],
)
def test_an_open_regression_is_the_verdict(staff, state, better, said, level):
    runs, metric = history.runs(20), history.metric()
    history.measure(metric, runs, history.noisy(20))
    Regression.objects.create(
        metric=metric, machine=runs[0].machine, branch="main", run=runs[15], state=state,
        better=better, ratio=1.2, evidence={"new_median": 120.0, "baseline_median": 100.0},
    )  # fmt: skip
    response = staff.get(TRENDS)
    verdict = response.context["verdict"]
    assert verdict.text == f"20 % slower since {runs[15].commit[:7]}, {said}."
    assert verdict.level == level
    assert [dot["run"] for dot in points(response)["Flagged"]] == [runs[15].pk]
    assert f"{'◆ better' if better else '▲ worse'}: {state}" in text(response)


def test_what_was_accepted_is_no_news(staff):
    runs, metric = history.runs(50), history.metric()
    history.measure(metric, runs, stepped(50, 30, 1.25))
    Baseline.objects.create(
        metric=metric, machine=runs[0].machine, branch="main", since=runs[30].started_at,
        reason="Checks do more now.",
    )  # fmt: skip
    response = staff.get(TRENDS)
    assert response.context["verdict"].level == "fine"
    assert "Checks do more now." in text(response)


def test_reruns_and_edited_files_are_shown_and_not_counted(staff):
    metric = history.metric()
    end = timezone.now() - timedelta(hours=3)
    history.measure(metric, history.runs(12, end=end), [100.0] * 12)
    (dirty,) = history.runs(1, end=end + timedelta(hours=1), dirty=True)
    (rerun,) = history.runs(1, end=end + timedelta(hours=2), trigger="rerun")
    history.measure(metric, [dirty, rerun], [500.0, 600.0])
    response = staff.get(TRENDS)
    drawn = points(response)
    assert [dot["run"] for dot in drawn["Not counted"]] == [dirty.pk, rerun.pk]
    assert len(drawn["Median of a run"]) == 12
    assert drawn["Baseline"][0]["y"] == 100.0
    assert "edited files" in text(response)
    assert "rerun of a suspect" in text(response)


def test_runs_that_did_not_end_are_not_there(staff):
    metric = history.metric()
    history.measure(metric, history.runs(3), [1.0, 2.0, 3.0])
    history.measure(metric, history.runs(1, state="lost"), [4.0])
    assert len(staff.get(TRENDS).context["series"].points) == 3


def test_machines_branches_and_periods_are_series_of_their_own(staff):
    metric, there = history.metric(), history.machine("there")
    history.measure(metric, history.runs(2), [100.0, 101.0])
    history.measure(metric, history.runs(3, machine=there, branch="feature"), [50.0] * 3)
    old = history.runs(1, end=timezone.now() - timedelta(days=100))
    history.measure(metric, old, [90.0])

    def medians(query: str) -> list[float]:
        return [one.median for one in staff.get(TRENDS + query).context["series"].points]

    assert medians(f"?machine={there.pk}") == [50.0] * 3
    assert medians("?branch=main") == [100.0, 101.0]
    assert medians("?branch=main&period=all") == [90.0, 100.0, 101.0]
    assert medians("?branch=main&period=nonsense") == [100.0, 101.0]
    response = staff.get(f"{TRENDS}?branch=main&machine={there.pk}")
    assert "It was not measured there" in text(response)
    assert text(staff.get(f"{TRENDS}?metric=x&machine=x&branch=&period=7"))


def test_deployments_and_edits_of_limits_are_on_the_same_line(staff):
    history.measure(history.metric(), history.runs(3), [100.0] * 3)
    now = timezone.now()
    Annotation.objects.create(at=now - timedelta(hours=2), kind="deployment", text="Release 7")
    Annotation.objects.create(at=now - timedelta(days=9), text="Before the first run")
    limit = apps.get_model("ratelimits", "RateLimit").objects.create(name="tight", quota=1000)
    said = text(staff.get(TRENDS))
    assert "Release 7" in said
    assert "tight made" in said
    assert f"/admin/ratelimits/ratelimit/{limit.pk}/history/" in said
    assert "Before the first run" not in said
    marks = [dot["said"][0] for dot in points(staff.get(TRENDS))["Happened"] if "said" in dot]
    assert marks == ["Limits edited: tight made", "Deployment: Release 7"]


def test_the_table_has_what_the_chart_has(staff):
    history.measure(history.metric(), history.runs(30), history.noisy(30))
    response = staff.get(TRENDS)
    rows = [point.run for point, _, _ in response.context["rows"]]
    assert rows[::-1] == [dot["run"] for dot in points(response)["Median of a run"]]


def test_csv_has_every_run_and_no_formula(staff):
    metric = history.metric()
    runs = history.runs(MANY // 10, commit="=HYPERLINK()")
    history.measure(metric, runs, history.noisy(len(runs)))
    response = staff.get(f"{TRENDS}?metric={metric.pk}&format=csv")
    assert "attachment" in response.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(response.content.decode())))
    assert len(rows) == len(runs)
    assert float(rows[-1]["median (us)"]) == history.noisy(len(runs))[-1]
    assert rows[0]["commit"] == "'=HYPERLINK()"


def test_text_from_outside_is_escaped(staff):
    bad = "</script><b>x"
    metric = history.metric(bad[:30], contestant=bad)
    runs = history.runs(3, branch=bad, commit=bad, machine=history.machine("m", cpu=bad))
    history.measure(metric, runs, [1.0] * 3)
    Annotation.objects.create(at=timezone.now(), text=bad)
    assert bad not in text(staff.get(TRENDS))
    assert bad not in text(staff.get(f"/admin/benchmarks/benchmarkrun/{runs[0].pk}/change/"))


def test_ten_thousand_runs_open_in_time_with_as_many_queries_as_thirty(staff):
    metric = history.metric()
    runs = history.runs(MANY, end=timezone.now())
    values = history.noisy(MANY)
    values[4321] = 333.0
    history.measure(metric, runs[:30], values[:30])
    query = f"{TRENDS}?metric={metric.pk}&period=all"
    staff.get(query)
    cache.clear()
    with CaptureQueriesContext(connection) as captured:
        staff.get(query)
    few = list(captured)
    history.measure(metric, runs[30:], values[30:])
    with CaptureQueriesContext(connection) as captured:
        response = staff.get(query)
    many = list(captured)
    # Its changes of level were found by the worker, after the run: here, by the page before.
    took_s = min(timeit.repeat(lambda: staff.get(query), number=1, repeat=3))
    assert len(many) == len(few)
    assert len(many) < 30
    assert took_s < 1, took_s
    drawn = points(response)["Median of a run"]
    assert len(drawn) < 500
    assert 333.0 in [dot["y"] for dot in drawn]
    assert drawn[-1]["run"] == runs[-1].pk
    assert f"Of 10,000 runs {len(drawn)} are drawn" in text(response)
    with connection.cursor() as cursor:
        found = many[
            [("p50" in one["sql"] and "ORDER BY" in one["sql"]) for one in many].index(True)
        ]
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {found['sql']}")
            assert "benchmarks_trend" in str(cursor.fetchall())


def test_what_is_edited_of_a_metric_goes_through_its_use_cases(staff):
    runs, metric = history.runs(2), history.metric()
    history.measure(metric, runs, [1.0, 2.0])
    found = Regression.objects.create(
        metric=metric, machine=runs[0].machine, run=runs[1], ratio=2.0
    )
    page = f"/admin/benchmarks/metric/{metric.pk}/change/"
    refused = staff.post(page, {"threshold_percent": "0.5", "ignored": "on"})
    errors = refused.context["adminform"].form.errors
    assert set(errors) == {"threshold_percent", "reason"}
    saved = staff.post(page, {"threshold_percent": "25", "ignored": "on", "reason": "A toy."})
    assert saved.status_code == 302
    now = Metric.objects.get()
    assert (now.threshold_percent, now.ignored) == (25, True)
    found.refresh_from_db()
    assert (found.state, found.reason) == ("ignored", "A toy.")
    assert "never judged" in staff.get(TRENDS).context["verdict"].text
    assert staff.post(page, {"threshold_percent": ""}).status_code == 302
    now = Metric.objects.get()
    assert (now.threshold_percent, now.ignored) == (None, False)
