"""The command, on a Valkey that it starts for itself."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from apps.benchmarks import registry, rounds
from apps.benchmarks.management.subcommands import targets
from apps.benchmarks.records import Direction
from apps.benchmarks.registry import Registry, Samples
from apps.benchmarks.targets import Sense, Target

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(rounds, "ROUND_S", 0.001)
    monkeypatch.setattr(rounds, "WARM_UP_S", 0.001)


@pytest.fixture
def stand_in(monkeypatch):
    """Benchmarks whose outcome is known, in place of the real ones."""
    made = Registry()

    def add(name, ours, bound):
        @made(
            name,
            suite="limiter",
            metric="time",
            unit="us",
            direction=Direction.LOWER,
            targets=(Target(f"what {name} is", "floor", Sense.AT_MOST, bound),),
        )
        def run(run):
            if ours is None:
                raise OSError("gone")
            return Samples({"iota": (ours,), "floor": (100.0,)})

    add("met", 50.0, 0.75)
    add("missed", 90.0, 0.75)
    add("broken", None, 0.75)
    monkeypatch.setattr(targets, "load_suites", lambda: made)
    return made


def call(*options):
    output, errors = io.StringIO(), io.StringIO()
    try:
        call_command("benchmark", "targets", *options, stdout=output, stderr=errors)
    except CommandError as error:
        return error.returncode, output.getvalue(), errors.getvalue() + str(error)
    return 0, output.getvalue(), errors.getvalue()


def test_a_real_row_is_measured_on_a_real_valkey():
    status, output, _ = call("--rounds", "1", "--row", "one-limit")
    assert "client and server on core" in output or "NOT PINNED" in output
    assert "| one-limit" in output
    assert ("1 of 1 targets met" in output) is (status == 0)


def test_json_is_all_that_stands_on_stdout():
    _, output, _ = call("--rounds", "2", "--row", "matching", "--row", "one-limit", "--json")
    found = json.loads(output)
    assert {row["row"] for row in found["rows"]} == {"one-limit", "matching"}
    assert all(len(result["samples"]) == 2 for result in found["results"])
    assert found["machine"]["valkey-server"]


def test_all_targets_met_is_success(stand_in):
    status, output, _ = call("--row", "met")
    assert (status, output.splitlines()[-1]) == (0, "1 of 1 targets met")


def test_a_missed_target_is_exit_code_1_and_named(stand_in):
    status, output, errors = call("--row", "met", "--row", "missed")
    assert (status, output.splitlines()[-1]) == (1, "1 of 2 targets met")
    assert "1 of 2 targets missed: missed" in errors


def test_one_that_fails_is_missed_and_the_others_are_measured(stand_in):
    status, output, errors = call()
    assert (status, output.splitlines()[-1]) == (1, "1 of 3 targets met")
    assert "[1] OSError: gone" in output
    assert "Traceback" in errors


def test_a_wrong_name_is_answered_with_those_there_are():
    status, output, errors = call("--row", "one-limt")
    assert (status, output) == (2, "")
    assert "no row is named one-limt; there are: " in errors
    assert {"one-limit,", "matching,", "http-bare-sync,"} <= set(errors.split())


@pytest.mark.parametrize("rounds", ["0", "-1", "many"])
def test_rounds_are_a_number_of_one_or_more(rounds):
    assert call(f"--rounds={rounds}")[0] == 1


def test_help_shows_an_example_and_exit_codes_are_those_of_the_process():
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "iota.settings"}
    base = [sys.executable, "manage.py", "benchmark"]
    shown = subprocess.run(
        [*base, "targets", "--help"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert "manage.py benchmark targets --row one-limit" in shown.stdout
    assert "exit codes: 0" in shown.stdout
    wrong = subprocess.run(
        [*base, "targets", "--row", "x"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (wrong.returncode, "there are: one-limit, three-limits" in wrong.stderr) == (2, True)


def test_the_suites_are_those_of_the_registry():
    assert registry.load_suites() is registry.benchmark
