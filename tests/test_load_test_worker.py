"""A load test that staff asked for, by a real worker with real locust against a real site."""

from __future__ import annotations

import json

import pytest

from .servers import RedisProcess
from .sites import SiteProcess, environment, manage
from .workers import Worker

ASK = """
from apps.benchmarks.models import LoadTest
from apps.benchmarks.queueing import enqueue_load_test
enqueue_load_test(LoadTest.objects.create(target={target!r}, users=5, seconds={seconds},
                                          per_s=50, same_limits=True))
"""
STOP = "from apps.benchmarks.models import LoadTest; LoadTest.objects.update(stop_asked=True)"
STATE = "SELECT state FROM benchmarks_loadtest ORDER BY id DESC LIMIT 1"


@pytest.fixture
def worker(tmp_path):
    """It and the site that it loads have one database and one Valkey."""
    redis = RedisProcess().start()
    variables = {"IOTA_LOADTEST_MAX_SECONDS": "100"}
    site = SiteProcess(tmp_path, environment(tmp_path, redis.url, **variables))
    made = Worker(tmp_path, redis.url)
    made.environment |= {**variables, "IOTA_LOADTEST_TARGETS": site.url}
    try:
        manage(made.environment, "migrate", "--verbosity", "0")
        manage(made.environment, "loaddata", "demo_limits", "--verbosity", "0")
        site.start()
        made.url = site.url
        made.start(1, "--pool", "solo", queue="loadtests")
        yield made
    finally:
        made.stop()
        site.stop()
        redis.stop()


def ask(worker: Worker, seconds: int) -> None:
    script = ASK.format(target=worker.url, seconds=seconds)
    manage(worker.environment, "shell", "-v", "0", "-c", script)


def test_it_is_judged_recorded_and_another_one_stopped(worker):
    ask(worker, 4)
    worker.wait(STATE, [("done",)])
    ((verdict, lines, progress),) = worker.rows(
        "SELECT verdict, lines, progress FROM benchmarks_loadtest"
    )
    # How fast this machine is now may be anything; that the limits keep their word may not.
    assert verdict in ("met", "missed", "invalid"), lines
    told = " ".join(json.loads(lines))
    assert "api-per-address:" in told
    assert json.loads(progress)["requests"] > 0
    ((reasons,),) = worker.rows("SELECT reasons FROM benchmarks_loadtest")
    assert not [one for one in json.loads(reasons) if "api-" in one], reasons
    if verdict != "invalid":
        # It has a run, whose metrics know how many users there were.
        rows = worker.rows(
            "SELECT m.parameters FROM benchmarks_measurement JOIN benchmarks_metric m ON "
            "m.id = metric_id JOIN benchmarks_loadtest l "
            "ON l.run_id = benchmarks_measurement.run_id WHERE m.benchmark = 'GET /api/test'"
        )
        assert [json.loads(str(row[0]))["users"] for row in rows] == [5, 5, 5]

    ask(worker, 90)
    worker.wait("SELECT state, progress != '{}' FROM benchmarks_loadtest ORDER BY id DESC LIMIT 1",
                [("running", 1)])  # fmt: skip
    manage(worker.environment, "shell", "-v", "0", "-c", STOP)
    worker.wait(STATE, [("stopped",)])
    newest = "SELECT run_id FROM benchmarks_loadtest ORDER BY id DESC LIMIT 1"
    assert worker.rows(newest) == [(None,)]
