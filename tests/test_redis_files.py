"""The files of deploy/redis on real servers of both flavours: they start, and do what they say."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time

import pytest
import redis
from redis.cluster import RedisCluster

from apps.ratelimits.policy.identity import DIGEST_CHARS
from apps.ratelimits.policy.rules import Algorithm, FailurePolicy, Rate, Rule
from apps.ratelimits.storage.limiter import RateLimiter, Target
from apps.ratelimits.tests.limiters import make_limiter

from . import redis_files
from .redis_files import CLUSTER, SENTINEL, SINGLE, settings_of, with_file
from .servers import RedisProcess, flavours, free_port

# Given on RedisProcess' command line too, or shown in another form than they are written in.
SHOWN_OTHERWISE = {"bind", "port", "save", "maxmemory", "repl-backlog-size"}
HOUR_US = 3_600_000_000
FOUND_S = 30.0

pytestmark = pytest.mark.parametrize("flavour", flavours())


def started(server: RedisProcess, request: pytest.FixtureRequest) -> RedisProcess:
    request.addfinalizer(server.stop)
    return server.start()


def bus_port(flavour: str) -> list[str]:
    """A free port may lie so high that 10,000 more is none."""
    return ["--cluster-port", str(free_port())]


@pytest.mark.parametrize("path", [SINGLE, CLUSTER], ids=lambda path: path.name)
def test_a_server_runs_by_the_file(flavour, path, request):
    options = bus_port(flavour) if path is CLUSTER else []
    server = started(with_file(flavour, path, *options), request)
    with server.client() as client:
        shown = client.config_get("*")
    written = settings_of(path)
    for name in set(written) - SHOWN_OTHERWISE:
        assert shown[name] == written[name], name
    assert shown["maxmemory"] == str(2 << 30)


def test_a_sentinel_starts_and_watches(flavour, request):
    server = started(with_file(flavour, SENTINEL, "--sentinel"), request)
    with server.client() as client:
        shown = client.sentinel_master("iota")
    assert (shown["down-after-milliseconds"], shown["quorum"]) == (2_000, 2)


def test_nodes_and_single_servers_say_the_same_of_what_is_the_same(flavour):
    single, cluster = settings_of(SINGLE), settings_of(CLUSTER)
    assert {name for name in single if single[name] != cluster.get(name)} == {"port"}


@pytest.fixture
def nearly_full(flavour, request):
    """A limiter on a server of single.conf with little memory, and a counter that is used up."""

    def make(policy: str | None) -> tuple[RateLimiter, Target]:
        options = ["--maxmemory-policy", policy] if policy else []
        server = started(with_file(flavour, SINGLE, *options), request)
        limiter = make_limiter(server.url, redis_timeout_ms=5_000)
        request.addfinalizer(limiter.close)
        once_an_hour = Rate(Algorithm.FIXED_WINDOW, 1, HOUR_US, 1)
        rule = Rule(id=1, name="once", rate=once_an_hour, on_failure=FailurePolicy.DENY)
        target = Target(rule, "a" * DIGEST_CHARS)
        assert limiter.check([target]).allowed
        assert not limiter.check([target]).allowed
        limiter.forget(None)  # The denial is remembered in this process.
        with server.client() as client:
            used = client.info("memory")["used_memory"]
            client.config_set("maxmemory", used + (1 << 20))
            client.config_set("maxmemory-samples", 64)
        return limiter, target

    return make


def fill(limiter: RateLimiter) -> None:
    """What an attacker or a large cache does: 4 MB of keys, each with longer to live."""
    for number in range(400):
        limiter.client.set(f"iota:b:{{{number:020}}}", random.randbytes(10_000), px=9_000_000)


def test_a_full_server_of_single_conf_refuses_and_forgets_nobody(nearly_full):
    limiter, target = nearly_full(None)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        fill(limiter)
    # To the last byte: a short value may still have found room.
    limiter.client.config_set("maxmemory", limiter.client.info("memory")["used_memory"] // 2)
    assert limiter.client.info("stats")["evicted_keys"] == 0
    denied = limiter.check([target])
    assert (denied.allowed, denied.unavailable) == (False, False)
    other = limiter.check([Target(target.rule, "b" * DIGEST_CHARS)])
    assert (other.allowed, other.unavailable) == (False, True)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl"])
def test_a_policy_that_evicts_lets_a_used_up_limit_begin_anew(nearly_full, policy):
    limiter, target = nearly_full(policy)
    time.sleep(1.1)  # The server knows by the second how long a key was not used.
    fill(limiter)
    assert limiter.client.info("stats")["evicted_keys"] > 0
    assert limiter.check([target]).allowed


needs_redis_cli = pytest.mark.skipif(not shutil.which("redis-cli"), reason="no redis-cli here")


@needs_redis_cli
def test_six_nodes_become_the_cluster_of_the_file_and_outlive_a_primary(flavour, request):
    """With users: a replica logs in at its primary, redis-cli as the administrator."""
    login = ["--masteruser", "iota-replica", "--masterauth", redis_files.secret("iota-replica")]
    nodes = [
        started(
            redis_files.with_users(flavour, *login, *bus_port(flavour), conf=CLUSTER),
            request,
        )
        for _ in range(6)
    ]
    addresses = [f"127.0.0.1:{node.port}" for node in nodes]
    admin = ["--user", "iota-admin", "--no-auth-warning"]
    one_replica = ["--cluster-replicas", "1", "--cluster-yes"]
    made = subprocess.run(
        ["redis-cli", *admin, "--cluster", "create", *addresses, *one_replica],
        env={**os.environ, "REDISCLI_AUTH": redis_files.secret("iota-admin")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "All 16384 slots covered" in made.stdout, made.stdout + made.stderr
    wait_for(lambda: all(_linked(node) for node in nodes))
    site = RedisCluster.from_url(redis_files.url("iota", addresses[0]))
    try:
        assert site.set("iota:b:{x}", "1", px=60_000)
        lost = site.get_node_from_key("iota:b:{x}").port
        wait_for(lambda: sum(_keys(node) for node in nodes) == 2)
        next(node for node in nodes if node.port == lost).kill()
        wait_for(lambda: site.get("iota:b:{x}") == b"1")
        assert site.get_node_from_key("iota:b:{x}").port != lost
    finally:
        site.close()


def _linked(node: RedisProcess) -> bool:
    with node.client() as client:
        replication = client.info("replication")
    if replication["role"] == "master":
        return bool(replication["connected_slaves"] == 1)
    return bool(replication["master_link_status"] == "up")


def _keys(node: RedisProcess) -> int:
    with node.client() as client:
        return int(client.dbsize())


def wait_for(condition) -> None:
    deadline = time.monotonic() + FOUND_S
    while True:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, "nothing within the time"
        time.sleep(0.1)
