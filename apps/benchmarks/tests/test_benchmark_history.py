"""``manage.py benchmark run|list|show|compare|export|import``, on a Valkey of their own."""

from __future__ import annotations

import io
import json
import re

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from apps.benchmarks import recording
from apps.benchmarks.management.commands import benchmark as command
from apps.benchmarks.management.subcommands import progress, running
from apps.benchmarks.models import BenchmarkRun, Regression
from apps.benchmarks.records import Direction
from apps.benchmarks.registry import Registry, Samples

from .history import machine, measure, noisy, runs

pytestmark = pytest.mark.django_db


@pytest.fixture
def speed(monkeypatch):
    """Benchmarks as slow as told, in place of the real ones."""
    monkeypatch.delenv("CI", raising=False)
    registry, found = Registry(), {"check": 100.0}
    words = {"suite": "ours", "metric": "time", "unit": "us", "direction": Direction.LOWER}

    def check(given):
        return Samples({"iota": (found["check"],) * given.rounds})

    def broken(given):
        raise OSError("gone")

    registry("check", **words, sets=("quick", "full"))(check)
    registry("broken", **words, sets=("full",))(broken)
    for module in (recording, running):
        monkeypatch.setattr(module, "load_suites", lambda: registry)
    return found


def call(*options):
    output, errors = io.StringIO(), io.StringIO()
    try:
        call_command("benchmark", *options, stdout=output, stderr=errors)
    except CommandError as error:
        return error.returncode, output.getvalue(), errors.getvalue() + str(error)
    return 0, output.getvalue(), errors.getvalue()


def test_a_run_is_kept_and_shown_and_progress_is_plain_lines(speed):
    status, output, errors = call("run", "--set", "quick", "--note", "new kernel")
    assert (status, errors) == (0, "1 of 1: check\n")
    run = BenchmarkRun.objects.get()
    assert (run.state, run.trigger, run.note) == ("done", "command", "new kernel")
    assert "note: new kernel" in output
    assert re.search(r"\| ours +\| check +\| time \| iota +\| 100 us \|", output)
    assert call("show", str(run.pk)) == (0, output, "")


def test_json_is_all_that_stands_on_stdout(speed):
    status, output, _ = call("run", "--benchmark", "check", "--rounds", "3", "--json")
    found = json.loads(output)
    assert (status, found["state"], found["chosen"]) == (0, "done", ["check"])
    assert found["measurements"][0]["samples"] == [100.0] * 3
    assert found["regressions"] == []
    shown = json.loads(call("show", str(found["run"]), "--json")[1])
    assert shown["measurements"] == found["measurements"]


def test_a_ci_is_the_trigger_where_one_runs_it(speed, monkeypatch):
    monkeypatch.setenv("CI", "true")
    call("run", "--set", "quick")
    assert BenchmarkRun.objects.get().trigger == "ci"


def test_one_that_fails_is_exit_code_1_and_the_others_are_kept(speed):
    status, output, errors = call("run", "--set", "full")
    assert (status, "1 of 2 benchmarks failed" in errors) == (1, True)
    assert "error: broken: OSError: gone" in output
    assert BenchmarkRun.objects.get().measurements.count() == 1


def test_a_run_that_measured_nothing_is_exit_code_1(speed):
    status, _, errors = call("run", "--benchmark", "broken")
    assert (status, "failed" in errors) == (1, True)


def test_while_another_is_measured_it_is_exit_code_4_and_leaves_no_row(speed):
    other = BenchmarkRun.objects.create(trigger="staff", state="running", seen_at=timezone.now())
    status, _, errors = call("run", "--set", "quick")
    assert (status, f"run {other.pk} is being measured" in errors) == (4, True)
    assert BenchmarkRun.objects.count() == 1


@pytest.mark.parametrize(
    "options", [("--benchmark", "chekc"), ("--set", "slow"), (), ("--set", "quick", "--rounds=0")]
)
def test_wrong_options_make_no_run(speed, options):
    status, output, errors = call("run", *options)
    assert (status in (1, 2), output) == (True, "")
    assert not BenchmarkRun.objects.exists()
    if "chekc" in options:
        assert (status, "there are: check, broken" in errors) == (2, True)


@pytest.fixture
def past(speed):
    call("run", "--set", "quick")
    first = BenchmarkRun.objects.get()
    one = first.measurements.get()
    first.delete()
    measure(one.metric, runs(20, machine=one.machine, branch=one.branch), noisy(20))
    return one.metric


def test_a_regression_is_suspected_repeated_and_confirmed_in_one_go(speed, past):
    speed["check"] = 150.0
    status, output, errors = call("run", "--set", "quick")
    assert status == 3
    assert "suspect: rerun 4 of 4" in errors
    assert "Confirmed: check time iota 1.50 times worse" in output
    assert "confirmed: check time iota 1.50 times as bad" in errors
    assert BenchmarkRun.objects.filter(trigger="rerun", state="done").count() == 4


def test_without_reruns_it_stays_a_suspect(speed, past):
    speed["check"] = 150.0
    status, output, _ = call("run", "--set", "quick", "--no-rerun")
    assert (status, "Suspected: check time iota 1.50 times worse" in output) == (0, True)
    assert Regression.objects.get().state == "suspected"


def test_reruns_that_were_interrupted_keep_nobody_waiting(speed, past, monkeypatch):
    speed["check"] = 150.0
    measured = []

    def interrupted(run, *args, **options):
        measured.append(run)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return recording.record(run, *args, **options)

    monkeypatch.setattr(running, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call("run", "--set", "quick")
    states = BenchmarkRun.objects.filter(trigger="rerun").order_by("pk").values_list("state")
    assert [state for (state,) in states] == ["done", "stopped", "stopped", "stopped"]


def test_an_improvement_is_told_and_fails_nothing(speed, past):
    speed["check"] = 50.0
    status, output, _ = call("run", "--set", "quick", "--json")
    (found,) = json.loads(output)["regressions"]
    assert (status, found["state"], found["better"]) == (0, "confirmed", True)


def test_runs_are_listed_the_newest_first():
    status, output, _ = call("list")
    assert (status, "No such run" in output) == (0, True)
    made = runs(3, branch="main") + runs(1, branch="topic", state="lost")
    listed = [row["run"] for row in json.loads(call("list", "--json", "--branch", "main")[1])]
    assert listed == [run.pk for run in reversed(made[:3])]
    output = call("list", "--state", "lost")[1]
    assert [line for line in output.splitlines() if "quick" in line and "topic" in line]
    assert len(json.loads(call("list", "--json", "--limit", "2")[1])) == 2


def test_two_runs_are_compared(speed):
    call("run", "--set", "quick")
    speed["check"] = 150.0
    call("run", "--set", "quick", "--no-rerun")
    old, new = (str(pk) for pk in BenchmarkRun.objects.order_by("pk").values_list("pk", flat=True))
    status, output, _ = call("compare", old, new)
    assert (status, "1 worse" in output) == (0, True)
    assert re.search(r"\| 100 us \| 150 us \| 1.50 +\| WORSE \|", output)
    assert call("compare", old, new, "--fail")[0] == 1
    assert call("compare", new, old, "--fail")[0] == 0
    (line,) = json.loads(call("compare", old, new, "--json")[1])["lines"]
    assert (line["times_as_bad"], line["over_threshold"]) == (1.5, True)


def test_runs_of_different_machines_are_not_compared():
    (old,), (new,) = runs(1), runs(1, machine=machine("there", cores=8))
    status, output, errors = call("compare", str(old.pk), str(new.pk))
    assert (status, output) == (2, "")
    assert "different machines (cores: 8 and 2)" in errors


@pytest.mark.parametrize("words", [("show", "99"), ("compare", "99", "98"), ("export", "-")])
def test_a_run_that_is_not_there_is_exit_code_2(words):
    more = ("--run", "99") if words[0] == "export" else ()
    status, output, errors = call(*words, *more)
    assert (status, output, "There is no run 9" in errors) == (2, "", True)


def test_a_history_goes_out_and_comes_back(speed, tmp_path):
    path = tmp_path / "history.jsonl"
    for _ in range(2):
        call("run", "--set", "quick")
    status, output, _ = call("export", str(path))
    assert (status, output) == (0, f"2 runs in {path}\n")
    assert call("export", "-")[1] == path.read_text()
    line = json.loads(path.read_text().splitlines()[0])
    assert line["timestamp"] < timezone.now().timestamp()
    assert line["results"] == {"check time iota": 100.0}
    BenchmarkRun.objects.all().delete()
    assert call("import", str(path)) == (0, "2 runs are new, 0 were there already\n", "")
    assert json.loads(call("import", str(path), "--json")[1]) == {"new": 0, "known": 2}


def test_what_cannot_be_read_or_written_is_said(tmp_path):
    assert call("import", str(tmp_path / "none"))[0] == 1
    assert call("export", str(tmp_path / "none" / "file"))[0] == 1
    bad = tmp_path / "bad"
    bad.write_bytes(b"\xff\xfe")
    assert call("import", str(bad))[0] == 2
    bad.write_text("hello")
    status, _, errors = call("import", str(bad))
    assert (status, "neither JSON lines nor" in errors) == (2, True)


def test_an_import_says_of_which_machine_it_is(tmp_path):
    path = tmp_path / "redis.csv"
    path.write_text('"test","rps"\n"SET","125000.00"\n')
    assert call("import", str(path), "--machine", "staging")[0] == 0
    fields = BenchmarkRun.objects.get().machine.fields
    assert fields == {"name": "staging", "measured by": "redis-benchmark"}


@pytest.mark.parametrize("name", list(command.SUBCOMMANDS))
def test_every_help_shows_an_example_and_the_exit_codes(name):
    module = command.SUBCOMMANDS[name]
    assert f"manage.py benchmark {name}" in module.EXAMPLES
    assert "\nexit codes: 0 " in module.EXAMPLES


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    made = command.Command(stderr=Terminal())
    with progress.shown(made, "run 1") as report:
        report(0, 2, "check")
        report(2, 2, "")
    shown = capsys.readouterr().err
    assert "2/2" in shown
