"""``make loadtest`` as it is: a site of its own, locust in two processes, a run in the demo's
database, and nothing left."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from .sites import ROOT

SHORT = ["--users", "10", "--rate", "20", "--run-time", "6s", "--processes", "2"]
PATIENT = ["--p99-ms", "9000", "--lag-ms", "9000"]


def command(var: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "iota.loadtest", "--var", str(var), *words]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("IOTA_")}


def test_it_proves_the_limits_and_is_recorded(tmp_path):
    ran = subprocess.run(
        command(tmp_path, *SHORT, *PATIENT),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "loadtests: MET" in ran.stdout
    for name in ("api-per-address", "api-together", "api-edited"):
        assert f"{name}: " in ran.stdout
    with closing(sqlite3.connect(tmp_path / "iota.sqlite3")) as database:
        runs = database.execute('SELECT state, "trigger", note FROM benchmarks_benchmarkrun')
        ((state, trigger, note),) = runs.fetchall()
        metrics = database.execute("SELECT benchmark, metric, parameters FROM benchmarks_metric")
        found = {(row[0], row[1]): json.loads(row[2]) for row in metrics}
    assert (state, trigger, note.splitlines()[0]) == ("done", "locust", "MET")
    assert found["GET /api/test", "response time"] == {"users": 10, "scenario": "mixed"}
    # The one of the staff has edited its limit.
    assert ("POST admin: edit a limit", "response time") in found


def test_ctrl_c_ends_all_of_it(tmp_path):
    process = subprocess.Popen(
        command(tmp_path, "--users", "5", "--run-time", "5m", *PATIENT),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = ""
    while "users at http" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    try:
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 3, said + rest
    assert "stopping site" in rest
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert not (tmp_path / "iota.sqlite3").exists()


def test_what_is_no_number_of_users_is_one_line(tmp_path):
    ran = subprocess.run(
        command(tmp_path, "--users", "0"), cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 2
    assert "--users 0: use 1 to 100000" in ran.stderr
