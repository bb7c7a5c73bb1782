"""Previews by a real worker: of a record that is too long to wait for, and stopped on the way."""

from __future__ import annotations

import json
from array import array

from apps.ratelimits.policy.traffic import Batch, Outcome, What, Who
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.topology import Topology
from apps.ratelimits.storage.traffic import TrafficStore

from .sites import manage
from .workers import Worker

RECORDS = 400_000
PER_BATCH = 20_000
ASK = """
import json
from django.contrib.auth.models import User
from apps.ratelimits import previewing
from apps.ratelimits.models import RateLimit
from apps.ratelimits.tasks import preview
limit, _ = RateLimit.objects.get_or_create(name="own", quota=100)
draft = previewing.with_quota(previewing.as_it_is(limit.pk), 3)
run = previewing.begin(draft, previewing.as_it_is(limit.pk), {records}, None)
preview.apply_async(kwargs={{"run": run.pk}}, retry=False)
print(run.pk)
"""
STATES = "SELECT state FROM ratelimits_previewrun ORDER BY id"
STOP = """
from apps.ratelimits import previewing
print(previewing.stop({pk}, None))
"""


def fill(url: str) -> None:
    """40 requests of each of 10,000 addresses."""
    client = Topology.parse(url, timeout_ms=5_000, max_connections=1).client()
    store = TrafficStore(client, Keys("iota:"), 1_000_000, 3_600)
    whos = [Who(f"address{n}", "203.0.113.0/24", "", False, (), "", (), ()) for n in range(10_000)]
    for number in range(RECORDS // PER_BATCH):
        at_us = [1_800_000_000_000_000 + number * 10_000 + n for n in range(PER_BATCH)]
        zeros = array("I", bytes(4 * PER_BATCH))
        who = array("I", (n % 10_000 for n in range(PER_BATCH)))
        whats, outcomes = [What("GET", "/", "", "", ())], [Outcome(200, ())]
        store.add(Batch(whats, whos, outcomes, array("Q", at_us), zeros, zeros, who, zeros))
    client.close()


def ask(worker: Worker) -> int:
    return int(manage(worker.environment, "shell", "-v", "0", "-c", ASK.format(records=RECORDS)))


def test_a_worker_tries_a_long_record_and_stops_when_told(worker: Worker):
    worker.environment["IOTA_REDIS_TIMEOUT_MS"] = "5000"
    fill(worker.environment["REDIS_URL"])
    worker.start(1, queue="celery")
    ask(worker)
    worker.wait(STATES, [("done",)])
    ((result, done, of),) = worker.rows("SELECT result, done, of FROM ratelimits_previewrun")
    draft = json.loads(result)["draft"]
    assert (draft["matched"], draft["denied"]) == (400_000, 370_000)
    assert (draft["people"], draft["people_denied"]) == (10_000, 10_000)
    assert done == of == 2 * RECORDS

    second = ask(worker)
    worker.wait(STATES, [("done",), ("running",)])
    said = manage(worker.environment, "shell", "-v", "0", "-c", STOP.format(pk=second))
    # Where it was quicker than we were, there was nothing to stop.
    ended = "stopped" if "True" in said else "done"
    ask(worker)
    worker.wait(STATES, [("done",), (ended,), ("done",)])
