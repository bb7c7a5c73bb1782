"""The doctor by a real worker, and what it says of workers that run, and of those that do not."""

from __future__ import annotations

import json
import time

import pytest

from .servers import RedisProcess
from .sites import manage
from .workers import WAIT_S, Worker

ASK = """
from django.contrib.auth.models import User
from apps.monitoring import diagnosing
diagnosing.ask(User.objects.create_user("ada"))
"""
AGED = """
from datetime import timedelta
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
rows = PeriodicTask.objects.filter(enabled=True)
at = timezone.now() - timedelta(minutes={minutes})
rows.update(last_run_at=at, date_changed=at)
PeriodicTask.objects.filter(task="benchmarks.forget_old_runs").update(enabled=False)
"""


NEW = """
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
PeriodicTask.objects.update(last_run_at=None, date_changed=timezone.now())
"""


def findings(worker: Worker, code: int) -> dict[tuple[str, str], dict[str, str]]:
    command = ["doctor", "--only", "workers", "--json"]
    said = json.loads(manage(worker.environment, *command, code=code))
    return {(one["code"], one["where"]): one for one in said["findings"]}


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_worker_makes_a_diagnosis_and_is_itself_seen(worker, pool):
    """Of the pool solo it cannot answer while it diagnoses."""
    worker.start(1, "--pool", pool, queue="monitoring,benchmarks")
    manage(worker.environment, "shell", "-v", "0", "-c", ASK)
    worker.wait("SELECT state, done FROM monitoring_diagnosis", [("done", 16)])
    ((outcomes,),) = worker.rows("SELECT outcomes FROM monitoring_diagnosis")
    found = {
        (one["code"], one["where"]): one["level"]
        for part in json.loads(str(outcomes))
        for one in part["findings"]
    }
    assert found["worker", "queue monitoring"] == found["worker", "queue benchmarks"] == "info"
    assert found["no-worker", "queue celery"] == "error"
    assert "hook-failed" not in {code for code, _ in found}


def test_a_queue_without_a_worker_is_told_and_with_one_again_it_is_not(worker):
    manage(worker.environment, "shell", "-v", "0", "-c", NEW)
    found = findings(worker, 2)
    assert found["no-worker", "queue celery"]["level"] == "error"
    # The rows of the periodic tasks are new: beat may run, and not have written yet.
    assert found["not-known", "celery beat"]["level"] == "unknown"
    assert found["no-worker", "queue benchmarks"]["level"] == "warning"
    assert "--queues benchmarks" in found["no-worker", "queue benchmarks"]["to_do"]
    worker.start(queue="celery")
    manage(worker.environment, "shell", "-v", "0", "-c", AGED.format(minutes=1))
    deadline = time.monotonic() + WAIT_S
    while "ready." not in worker.log.read_text():
        assert time.monotonic() < deadline, worker.log.read_text()
        time.sleep(0.1)
    found = findings(worker, 1)
    assert found["worker", "queue celery"]["level"] == "info"
    assert found["beat", "celery beat"]["evidence"].startswith("a periodic task ran")
    assert "forget old runs" in found["tasks-off", "celery beat"]["evidence"]
    worker.stop()
    manage(worker.environment, "shell", "-v", "0", "-c", AGED.format(minutes=20))
    found = findings(worker, 2)
    assert found["no-worker", "queue celery"]["level"] == "error"
    assert "20 min ago" in found["no-beat", "celery beat"]["evidence"]


def test_a_long_queue_is_told(worker):
    send = (
        "from celery import current_app\n"
        "from iota.celery import app\n"
        "with app.connection_for_write() as connection:\n"
        "    for _ in range(1001):\n"
        "        app.send_task('monitoring.nothing', queue='monitoring', connection=connection)\n"
    )
    manage(worker.environment, "shell", "-v", "0", "-c", send)
    found = findings(worker, 2)
    assert (
        found["queue-long", "queue monitoring"]["evidence"] == "waiting messages: 1,001; workers: 0"
    )


def test_a_broker_that_is_frozen_is_told_in_time(worker):
    broker = RedisProcess().start()
    worker.environment["CELERY_BROKER_URL"] = broker.url
    broker.pause()
    began_s = time.monotonic()
    try:
        found = findings(worker, 2)
    finally:
        broker.stop()
    assert found["no-broker", "Celery's broker"]["level"] == "error"
    assert time.monotonic() - began_s < 20


def test_a_broker_that_is_away_is_an_error_in_bounded_time(worker):
    worker.environment["CELERY_BROKER_URL"] = "redis://:hunter2@127.0.0.1:1/0"
    found = findings(worker, 2)
    assert found["no-broker", "Celery's broker"]["level"] == "error"
    assert "hunter2" not in json.dumps(list(found.values()))
