from __future__ import annotations

import json

import pytest

from apps.benchmarks import exchange
from apps.benchmarks.exchange import Malformed, export, read, store
from apps.benchmarks.models import BenchmarkRun, Measurement, Metric
from apps.benchmarks.recording import metric_row
from apps.benchmarks.regression import check_regression

from .history import machine, measure, runs

pytestmark = pytest.mark.django_db
HERE = {"name": "here"}
GUIDES = {"timestamp": 1_764_000_000.5, "git_commit": "a" * 40, "results": {"check": 41.5}}


def a_metric(**changes):
    columns = {
        "suite": "limiter",
        "benchmark": "check",
        "metric": "time",
        "contestant": "iota",
        "parameters": {"limits": 3},
        "unit": "us",
        "direction": "lower",
    }
    return metric_row({**columns, **changes})


def history(number=2, **changes):
    made = runs(number, note="why", errors=["broken: OSError"], **changes)
    measure(a_metric(), made, [100.0 + place for place in range(number)])
    measure(a_metric(contestant="floor"), made, [50.0] * number)
    Metric.objects.filter(contestant="floor").update(ignored=True)
    return made


def forget():
    BenchmarkRun.objects.all().delete()
    Metric.objects.all().delete()


def everything():
    run_fields = ("uid", "commit", "branch", "set_name", "started_at", "ended_at", "note", "errors")
    skipped = {"id", "run_id", "metric_id", "machine_id"}
    return (
        list(BenchmarkRun.objects.order_by("started_at").values(*run_fields, "loop_us")),
        [
            {name: value for name, value in row.items() if name not in skipped}
            for row in Measurement.objects.order_by("taken_at", "metric__contestant").values()
        ],
        list(Metric.objects.order_by("digest").values("digest", "contestant", "ignored", "unit")),
    )


def test_what_is_exported_is_imported_the_same_and_once():
    history()
    before, text = everything(), "\n".join(export(BenchmarkRun.objects.all()))
    assert store(read(text, HERE)) == (0, 2)
    forget()
    assert store(read(text, HERE)) == (2, 0)
    assert everything() == before
    assert store(read(text, HERE)) == (0, 2)
    run = BenchmarkRun.objects.first()
    assert (run.trigger, run.state, run.machine.fields) == ("import", "done", machine().fields)


def test_results_are_what_the_guides_comparison_takes():
    history()
    new, old = (json.loads(line)["results"] for line in export(BenchmarkRun.objects.all()))
    assert set(new) == {"check time iota (limits=3)", "check time floor (limits=3)"}
    check_regression(new, old)


def test_the_guides_own_lines_can_be_read():
    text = json.dumps(GUIDES) + "\n\n" + json.dumps({**GUIDES, "timestamp": 1_764_000_060})
    assert store(read(text, HERE)) == (2, 0)
    assert store(read(text, HERE)) == (0, 2)
    run = BenchmarkRun.objects.order_by("started_at").first()
    assert (run.commit, run.machine.fields) == ("a" * 40, HERE)
    taken = run.measurements.get()
    assert (taken.metric.benchmark, taken.p50, taken.n) == ("check", 41.5, 1)


def test_a_rerun_does_not_become_history():
    history(1, trigger="rerun")
    text = "\n".join(export(BenchmarkRun.objects.all()))
    forget()
    store(read(text, HERE))
    assert BenchmarkRun.objects.get().trigger == "rerun"


@pytest.mark.parametrize(
    "changes",
    [
        {"timestamp": "yesterday"},
        {"timestamp": 1e300},
        {"results": [1, 2]},
        {"results": {"check": None}},
        {"results": {"check": float("nan")}},
        {"results": {"c" * 81: 1.0}},
        {"git_commit": "a" * 41},
    ],
)
def test_a_bad_line_is_named_and_nothing_is_stored(changes):
    text = json.dumps(GUIDES) + "\n" + json.dumps({**GUIDES, **changes})
    with pytest.raises(Malformed, match=r"^line 2: "):
        store(read(text, HERE))
    assert not BenchmarkRun.objects.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("direction", "sideways"),
        ("n", 0),
        ("samples", [1.0] * 201),
        ("samples", ["x"]),
        ("parameters", "many"),
        ("p50", None),
        ("unit", "x" * 21),
    ],
)
def test_a_measurement_that_makes_no_sense_is_refused(name, value):
    history(1)
    (line,) = [json.loads(line) for line in export(BenchmarkRun.objects.all())]
    line["measurements"][0][name] = value
    with pytest.raises(Malformed, match="line 1"):
        read(json.dumps(line), HERE)


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"results": {}}', "null"])
def test_what_is_no_line_is_refused(text):
    with pytest.raises(Malformed, match="line 1"):
        exchange.read(text, HERE)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda line: line["machine"].update(cpu="a\0b"), "NUL"),
        (lambda line: line["machine"].update({"c\0": 1}), "NUL"),
        (lambda line: line["measurements"][0]["parameters"].update(a=["\0"]), "NUL"),
        (lambda line: line["measurements"][0].update(metric="\ud800"), "surrogates"),
        (lambda line: line["measurements"][0]["parameters"].update(a=1e999), "no number"),
        (lambda line: line["measurements"][0].update(n=2**31), "n is 2147483648"),
    ],
)
def test_what_no_database_keeps_is_refused_and_nothing_is_stored(change, why):
    history(1)
    (line,) = [json.loads(line) for line in export(BenchmarkRun.objects.all())]
    forget()
    change(line)
    text = json.dumps(line).replace("Infinity", "1e999")
    with pytest.raises(Malformed, match=rf"^the run of 20.*{why}"):
        store(read(text, HERE))
    assert not BenchmarkRun.objects.exists()
    assert not Metric.objects.exists()
