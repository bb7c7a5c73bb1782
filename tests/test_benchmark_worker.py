"""Benchmarks by a real worker: recorded whole, one at a time, and lost when it is killed."""

from __future__ import annotations

import time
from pathlib import Path

from .sites import manage
from .workers import Worker

QUEUE = "benchmarks"
SHORT = "compile"
LONG = "memory"

ASK = """
from apps.benchmarks.models import BenchmarkRun
from apps.benchmarks.queueing import enqueue
for name in {names}:
    run = BenchmarkRun.objects.create(trigger="staff", chosen=[name])
    enqueue(run)
"""
LATER = """
from datetime import timedelta
from django.utils import timezone
from apps.benchmarks.models import BenchmarkRun
from apps.benchmarks.tasks import watch_runs
watch_runs()
assert BenchmarkRun.objects.get().state == "running"
BenchmarkRun.objects.update(seen_at=timezone.now() - timedelta(minutes=2))
watch_runs()
"""

EDITED = """
from datetime import timedelta
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from apps.benchmarks.models import BenchmarkRun
row = PeriodicTask.objects.get(task="benchmarks.watch_runs")
row.crontab, row.interval = None, IntervalSchedule.objects.create(every=1, period="seconds")
row.save()
long_ago = timezone.now() - timedelta(hours=1)
BenchmarkRun.objects.create(trigger="staff", state="running", seen_at=long_ago)
"""


def ask(worker: Worker, *names: str) -> None:
    manage(worker.environment, "shell", "-v", "0", "-c", ASK.format(names=list(names)))


STATES = "SELECT state FROM benchmarks_benchmarkrun ORDER BY id"


def test_runs_are_recorded_one_at_a_time_however_many_processes_there_are(worker):
    worker.start(concurrency=2, queue=QUEUE)
    ask(worker, SHORT, SHORT)
    worker.wait(STATES, [("done",), ("done",)])
    first, second = worker.rows(
        "SELECT started_at, ended_at FROM benchmarks_benchmarkrun ORDER BY started_at"
    )
    assert first[1] <= second[0]
    assert worker.rows("SELECT errors, done, total FROM benchmarks_benchmarkrun") == [
        ("[]", 1, 1),
        ("[]", 1, 1),
    ]
    assert worker.rows("SELECT COUNT(*), MIN(n) FROM benchmarks_measurement") == [(2, 5)]


def test_a_killed_worker_leaves_a_lost_run_no_measurement_and_no_server(worker):
    worker.start(queue=QUEUE)
    ask(worker, LONG)
    worker.wait("SELECT state, current FROM benchmarks_benchmarkrun", [("running", LONG)])
    (server,) = servers_of(worker)
    worker.kill()
    ended_by(server, 10)
    assert worker.rows("SELECT COUNT(*) FROM benchmarks_measurement") == [(0,)]
    manage(worker.environment, "shell", "-v", "0", "-c", LATER)
    assert worker.rows(STATES) == [("lost",)]
    worker.start(1, "--pool", "solo", queue=QUEUE)  # as `make demo` does
    ask(worker, SHORT)
    worker.wait(STATES, [("lost",), ("done",)])


def test_the_schedule_alone_finds_a_lost_run_as_often_as_staff_say(worker, tmp_path):
    manage(worker.environment, "shell", "-v", "0", "-c", EDITED)
    # Beat in the worker's process: one of our own less.
    worker.start(1, "--beat", "--schedule", str(tmp_path / "beat"), queue="celery")
    worker.wait(STATES, [("lost",)])


def servers_of(worker: Worker) -> list[int]:
    """The embedded servers that a descendant of the worker has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            folder = (path / "cwd").readlink().name
        except OSError:
            continue
        if folder.startswith("iota-benchmark-") and descends(int(path.name), worker._process.pid):
            found.append(int(path.name))
    return found


def descends(pid: int, ancestor: int) -> bool:
    while pid > 1 and pid != ancestor:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return pid == ancestor


def ended_by(pid: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while Path(f"/proc/{pid}/stat").exists():
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":  # ended; nobody has asked for it yet
            return
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.05)
