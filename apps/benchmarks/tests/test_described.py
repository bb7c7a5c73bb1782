"""What whoever imports a run says of it, by the command and by a load test."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command

from apps.benchmarks.models import BenchmarkRun
from apps.benchmarks.tests.test_foreign import A_LOAD

pytestmark = pytest.mark.django_db


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "stats.json"
    command = [sys.executable, "-c", A_LOAD]
    found.write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return str(found)


def parameters() -> list[dict[str, object]]:
    return [row.metric.parameters for row in BenchmarkRun.objects.get().measurements.all()]


def test_parameters_a_note_and_the_code_that_is_here(path):
    words = ["--parameter", "users=100", "--parameter", "scenario=basic", "--note", "MET"]
    call_command("benchmark", "import", path, *words, "--this-code", verbosity=0)
    run = BenchmarkRun.objects.get()
    assert run.note == "MET"
    assert len(run.commit) in (0, 40)
    assert {json.dumps(one, sort_keys=True) for one in parameters()} == {
        '{"scenario": "basic", "users": 100}'
    }


def test_without_them_it_is_as_the_file_has_it(path):
    call_command("benchmark", "import", path, verbosity=0)
    assert (BenchmarkRun.objects.get().commit, BenchmarkRun.objects.get().note) == ("", "")
    assert parameters() == [{}] * len(parameters())


@pytest.mark.parametrize("wrong", ["users", "=3", "a b=3", "x=" + "y" * 41])
def test_a_parameter_that_is_none(path, wrong):
    with pytest.raises(CommandError, match="use NAME=VALUE"):
        call_command("benchmark", "import", path, "--parameter", wrong, verbosity=0)
    assert not BenchmarkRun.objects.exists()
