"""A primary is killed under load, and Sentinel makes its replica the primary."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import RedisProcess, sentinel

from .faults import WAIT_S, Fault
from .report import Row
from .scenario import Stage, measure_base, play_once
from .site import start_sites

pytestmark = pytest.mark.faults


class Primary:
    """With a replica and a Sentinel: where a scenario's Ground would be."""

    def __init__(self, flavour: str) -> None:
        self.primary = RedisProcess(flavour).start()
        follow = ["--replicaof", "127.0.0.1", str(self.primary.port)]
        self.replica = RedisProcess(flavour, follow).start()
        self.client = self.replica.client()
        _wait(lambda: self.client.info("replication")["master_link_status"] == "up")
        self.sentinel = sentinel(flavour, self.primary).start()
        with self.sentinel.client() as asked:
            _wait(lambda: asked.sentinel_master("main")["num-slaves"] == 1)

    def fail(self) -> None:
        self.primary.kill()

    def wait_for_failover(self) -> None:
        """Until Sentinel names the other one: sooner nobody can find it."""
        with self.sentinel.client() as asked:
            _wait(lambda: asked.sentinel_master("main")["port"] == self.replica.port)

    def close(self) -> None:
        self.client.close()
        for server in (self.sentinel, self.replica, self.primary):
            server.stop()


def _wait(done) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline_s, "no failover, or nothing to fail over to"
        time.sleep(0.01)


@pytest.fixture
def primary(flavour: str) -> Iterator[Primary]:
    made = Primary(flavour)
    yield made
    made.close()


def test_failover_by_sentinel(
    primary: Primary, template: Path, tmp_path: Path, rows: list[Row]
) -> None:
    url = f"redis+sentinel://127.0.0.1:{primary.sentinel.port}/main/0"
    sites = start_sites(tmp_path, template, url)
    try:
        stage = Stage(primary, sites)
        measure_base(stage, "none")
        # What the replica had not heard of is counted anew.
        fault = Fault("failover", Primary.fail, Primary.wait_for_failover, 0.01, keeps=False)
        outcome = play_once(stage, fault)
    finally:
        for site in sites:
            site.stop()
    rows += outcome.rows
    assert not outcome.missed, "\n".join(outcome.missed)
