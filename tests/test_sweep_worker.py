"""Sweeps by a real worker: from the queue that every worker takes, and lost when it is killed."""

from __future__ import annotations

import time

import pytest

from apps.ratelimits.policy.identity import digest
from apps.ratelimits.storage.keys import Keys

from .databases import migrate
from .servers import RedisProcess
from .sites import manage
from .test_redis_files import wait_for
from .workers import Worker

KEYS = 20_000
QUEUE = "celery"
STATES = "SELECT state FROM ratelimits_sweeprun ORDER BY id"

# A limit that was there once, and an edit that is long over.
ONCE = """
from apps.ratelimits.models import RateLimit, RulesetVersion
RateLimit.objects.create(name="gone", quota=5).delete()
RulesetVersion.objects.update(version=1)
print(RateLimit.history.first().id)
"""
ASK = """
from apps.ratelimits.tasks import sweep
sweep.apply_async(kwargs={options}, retry=False)
"""
LATER = """
from datetime import timedelta
from django.utils import timezone
from apps.ratelimits.models import SweepRun
SweepRun.objects.filter(state="running").update(seen_at=timezone.now() - timedelta(minutes=2))
"""


@pytest.fixture
def redis():
    server = RedisProcess().start()
    yield server
    server.stop()


@pytest.fixture
def worker(tmp_path, redis):
    made = Worker(tmp_path, redis.url)
    try:
        migrate(made.environment)
        manage(made.environment, "shell", "-v", "0", "-c", ONCE)
        yield made
    finally:
        made.stop()


def ask(worker: Worker, **options) -> None:
    manage(worker.environment, "shell", "-v", "0", "-c", ASK.format(options=options))


def test_a_worker_that_is_killed_loses_its_run_and_the_next_goes_on(worker, redis):
    keys = Keys("iota:")
    with redis.client() as client:
        client.delete(keys.ruleset)
        now_us = int(time.time() * 1_000_000)
        # Of limit 1, for an hour: a record of the common form.
        left = (3_600_000_000).to_bytes(4, "little")
        raw = b"\x02" + now_us.to_bytes(7, "little") + b"\x00" + (4).to_bytes(2, "little")
        pipeline = client.pipeline(transaction=False)
        for number in range(KEYS):
            who = digest(b"k", str(number))
            pipeline.set(keys.bucket(who), raw + left + b"\x01", px=3_600_000)
        pipeline.execute()
        worker.start(1, queue=QUEUE)
        ask(worker, rate_per_s=2_000, budget_s=60)
        wait_for(lambda: client.dbsize() < KEYS - 2_000)
        worker.kill()
        assert worker.rows(STATES) == [("running",)]
        # While nobody knows that it is dead, nobody sweeps; once it is silent, the next does.
        manage(worker.environment, "shell", "-v", "0", "-c", LATER)
        was_left = client.dbsize()
        assert was_left > KEYS // 4
        worker.start(1, queue=QUEUE)
        ask(worker, rate_per_s=100_000, budget_s=60)
        worker.wait(STATES, [("lost",), ("done",)])
        ((seen, last, number),) = worker.rows(
            "SELECT seen, is_last, pass_number FROM ratelimits_sweeprun WHERE state = 'done'"
        )
        # It did not go through again what was gone through.
        assert seen < KEYS - 1_000
        assert (last, number) == (1, 1)
        assert not list(client.scan_iter("iota:b:*"))
