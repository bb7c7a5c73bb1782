"""What the profiles of docker-compose.yml add."""

from __future__ import annotations

import shutil
import time

import pytest
import requests

from apps.ratelimits.storage.topology import Topology as Redis

pytestmark = pytest.mark.topology
CHECK = """
from apps.ratelimits.engine import get_engine
from apps.ratelimits.storage.limiter import Target
engine = get_engine()
print("published", engine.publish())
print("left", engine.limiter.check_rate_limit("somebody").remaining)
print("failing", engine.limiter.failures.failing)
"""


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")
def test_prometheus_scrapes_the_site_and_has_its_rules(topology):
    topology.start_service("prometheus")
    topology.wait_until_healthy("prometheus")
    url = f"http://127.0.0.1:{topology.ports['prometheus']}/api/v1"

    def value(query: str) -> str:
        asked = requests.get(f"{url}/query", {"query": query}, timeout=5).json()
        return "".join(one["value"][1] for one in asked["data"]["result"])

    try:
        deadline = time.monotonic() + 60
        while value("up") != "1":
            assert time.monotonic() < deadline, requests.get(f"{url}/targets", timeout=5).text
            time.sleep(0.5)
        assert value("iota_up") == "1"
        groups = requests.get(f"{url}/rules", timeout=5).json()["data"]["groups"]
        assert "iota-itself" in {group["name"] for group in groups}
    finally:
        assert topology.running["prometheus"].stop() == 0


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="needs redis-cli")
def test_the_cluster_is_made_once_and_the_site_counts_on_it(topology):
    nodes = [name for name in topology.services if name.startswith("node")]
    assert len(nodes) == 6
    try:
        for name in nodes:
            topology.start_service(name)
        for name in nodes:
            topology.wait_until_healthy(name)
        topology.run("make-cluster")
        url = topology.secret("redis_url.cluster")
        operator = topology.secret("redis_operator_url.cluster")
        with_cluster = {
            "REDIS_URL_FILE": str(topology.folder / "secrets/redis_url.cluster"),
            "IOTA_REDIS_OPERATOR_URL_FILE": str(
                topology.folder / "secrets/redis_operator_url.cluster"
            ),
        }
        deadline = time.monotonic() + 60
        client = Redis.parse(operator, timeout_ms=2_000, max_connections=5).client()
        while True:
            known = client.get_nodes()
            if len(known) == 6 and len(client.get_replicas()) == 3:
                break
            assert time.monotonic() < deadline, known
            time.sleep(0.5)
            client.close()
            client = Redis.parse(operator, timeout_ms=2_000, max_connections=5).client()
        client.close()
        assert url.count("127.0.0.1:") == 6
        said = topology.manage("shell", "--verbosity", "0", "-c", CHECK, **with_cluster)
        assert "left 99" in said
        assert "failing False" in said
        before = topology.running["make-cluster"].said()
        topology.run("make-cluster")
        after = topology.running["make-cluster"].said().removeprefix(before)
        assert "Performing hash slots allocation" in before
        assert "Performing hash slots allocation" not in after
    finally:
        for name in nodes:
            if name in topology.running:
                topology.running[name].stop()
