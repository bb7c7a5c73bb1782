"""Files that the tools themselves wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from apps.benchmarks import foreign
from apps.benchmarks.exchange import Malformed, store
from apps.benchmarks.models import BenchmarkRun, Measurement

pytestmark = pytest.mark.django_db
WHEN = datetime(2026, 11, 25, tzinfo=UTC)
HERE = {"name": "here"}

A_TEST = """
import pytest

@pytest.mark.parametrize("size", [10, 1000])
def test_sum(benchmark, size):
    benchmark.pedantic(sum, args=(range(size),), rounds=7)
"""

A_LOAD = """
import json
from locust.stats import RequestStats
stats = RequestStats()
for ms in [10, 20, 30, 40]:
    stats.log_request("GET", "/api/test", ms, 100)
stats.log_error("GET", "/api/test", "429")
entry = stats.get("/api/test", "GET")
entry.last_request_timestamp = entry.start_time + 2
print(json.dumps(stats.serialize_stats()))
"""


def load(text):
    return store(foreign.read(text, foreign.guess(text), HERE, WHEN))


def test_pytest_benchmarks_json(tmp_path):
    (tmp_path / "test_it.py").write_text(A_TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    command += ["-p", "no:django", "--benchmark-json", "out.json"]
    # It is no worker of the session that runs this test.
    own = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=own)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    text = (tmp_path / "out.json").read_text()
    assert load(text) == (1, 0)
    assert load(text) == (0, 1)
    run = BenchmarkRun.objects.get()
    assert run.machine.fields["python"] == "{}.{}".format(*sys.version_info)
    assert "GHz" not in json.dumps(run.machine.fields)
    taken = run.measurements.get(metric__benchmark="test_sum[1000]")
    metric = taken.metric
    assert metric.parameters == {"size": 1000}
    assert (metric.unit, metric.direction, taken.n) == ("s", "lower", 7)
    assert 0 < taken.minimum <= taken.p50 <= taken.maximum < 1


def test_pytest_benchmarks_json_without_its_samples(tmp_path):
    stats = {"min": 1, "max": 4, "mean": 2, "median": 2, "stddev": 0.5, "iqr": 1, "rounds": 9}
    row = {"name": "test_x", "params": None, "stats": stats}
    text = json.dumps({"datetime": WHEN.isoformat(), "benchmarks": [row]})
    assert load(text) == (1, 0)
    taken = Measurement.objects.get()
    assert (taken.n, taken.p50, taken.maximum, taken.mad) == (9, 2, 4, 0.5)
    assert taken.run.machine.fields == HERE


@pytest.mark.skipif(not shutil.which("redis-benchmark"), reason="redis-benchmark is not installed")
def test_redis_benchmarks_csv(redis_server):
    command = ["redis-benchmark", "-p", str(redis_server.port), "-n", "2000", "-c", "5"]
    command += ["-t", "set,get", "--csv"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert load(text) == (1, 0)
    assert load(text) == (0, 1)
    run = BenchmarkRun.objects.get()
    assert (run.started_at, run.machine.fields) == (WHEN, HERE)
    rate = run.measurements.get(metric__benchmark="SET", metric__unit="requests/s")
    assert (rate.metric.direction, rate.p50 > 100) == ("higher", True)
    latency = run.measurements.get(metric__benchmark="GET", metric__unit="ms")
    assert latency.minimum <= latency.p50 <= latency.p95 <= latency.p99 <= latency.maximum


def test_locusts_json():
    # In a process of its own: locust patches the standard library as it is imported.
    command = [sys.executable, "-c", A_LOAD]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert load(text) == (1, 0)
    assert load(text) == (0, 1)
    run = BenchmarkRun.objects.get()
    assert run.trigger == "locust"
    found = {taken.metric.metric: taken for taken in run.measurements.all()}
    times = found["response time"]
    assert (times.n, times.minimum, times.p50, times.maximum, times.mean) == (4, 10, 20, 40, 25)
    assert found["requests per second"].p50 == 2
    assert found["failures"].p50 == 25


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[]",
        "[1]",
        '[{"method": "GET"}]',
        "{}",
        '{"benchmarks": [{}], "datetime": "2026-11-25"}',
        '"test","rps"\n',
        '"test","rps"\n"SET","many"\n',
        '"test","rps"\n"SET","nan"\n',
    ],
)
def test_what_no_tool_wrote_is_refused(text):
    with pytest.raises(Malformed):
        load(text)
    assert not BenchmarkRun.objects.exists()
