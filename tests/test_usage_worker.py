"""Usage rolled up by real workers: several at once, killed in the midst, and behind Redis' back."""

from __future__ import annotations

import time

from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.topology import Topology
from apps.ratelimits.storage.usage import UsageStore

from .sites import manage
from .test_redis_files import wait_for
from .workers import Worker

LIMIT = """
from apps.ratelimits.models import RateLimit
print(RateLimit.objects.create(name="api", quota=5).pk)
"""
ASK = """
from apps.ratelimits.tasks import roll_up_usage
for _ in range({times}):
    roll_up_usage.apply_async(retry=False)
"""
SUMS = """
SELECT resolution_s, SUM(allowed), SUM(denied), SUM(sum_us) FROM ratelimits_limitrollup
GROUP BY resolution_s ORDER BY resolution_s
"""
TURN = "SELECT turn FROM ratelimits_rolledup"


def ask(worker: Worker, times: int = 1) -> None:
    manage(worker.environment, "shell", "-v", "0", "-c", ASK.format(times=times))


def wanted(allowed: int, denied: int) -> list[tuple[object, ...]]:
    return [(s, allowed, denied, 100 * (allowed + denied)) for s in (60, 3_600, 86_400)]


def test_workers_roll_up_once_what_was_counted(worker):
    number = int(manage(worker.environment, "shell", "-v", "0", "-c", LIMIT))
    url = worker.environment["REDIS_URL"]
    client = Topology.parse(url, timeout_ms=2_000, max_connections=2).client()
    store = UsageStore(client, Keys("iota:"))
    names = [f"limit:{number}:{part}" for part in ("allowed", "denied", "sum_us")]
    batch = 0

    def count(allowed: int, denied: int) -> None:
        nonlocal batch
        batch += 1
        sums = (allowed, denied, 100 * (allowed + denied))
        assert store.add("a", batch, dict(zip(names, sums, strict=True)))

    try:
        worker.start(4, queue="celery")
        ask(worker)
        worker.wait(TURN, [(0,)])
        count(700, 30)
        # Four processes take them at once.
        ask(worker, 12)
        worker.wait(SUMS, wanted(700, 30))
        for _ in range(5):
            count(40, 2)
            ask(worker, 4)
        worker.wait(SUMS, wanted(900, 40))
        # Killed wherever it is, it has written a turn or none.
        count(100, 0)
        ask(worker, 8)
        worker.kill()
        assert worker.rows(SUMS) in (wanted(900, 40), wanted(1_000, 40))
        worker.start(2, queue="celery")
        ask(worker)
        worker.wait(SUMS, wanted(1_000, 40))
        time.sleep(1)
        assert worker.rows(SUMS) == wanted(1_000, 40)
        # Redis begins anew, and what it counts then is new.
        client.delete(Keys("iota:").usage)
        batch = 0
        count(5, 5)
        ask(worker)
        worker.wait(SUMS, wanted(1_005, 45))
        wait_for(lambda: worker.rows("SELECT COUNT(*) FROM ratelimits_totalrollup") == [(0,)])
    finally:
        client.close()
