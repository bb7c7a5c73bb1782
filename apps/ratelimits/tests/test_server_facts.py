"""Reading real servers: what they say, what they refuse, and that nothing of them changes."""

from __future__ import annotations

import re
import time
from importlib.resources import files

import pytest
import redis
from redis.cluster import RedisCluster

from apps.ratelimits.storage import scripts
from apps.ratelimits.storage.server_facts import Scripts, read_servers, read_urls
from apps.ratelimits.storage.server_findings import MINIMUM_VERSION
from apps.ratelimits.storage.topology import Topology
from tests import redis_files
from tests.servers import RedisProcess, flavours, free_port, on_unix_socket
from tests.test_redis_files import wait_for
from tests.topologies import serving


@pytest.fixture(params=flavours())
def flavour(request):
    return request.param


@pytest.fixture
def start(flavour, request):
    def start(server: RedisProcess) -> RedisProcess:
        request.addfinalizer(server.stop)
        return server.start()

    return start


def client_of(url: str, timeout_ms: int = 2_000) -> redis.Redis:
    return Topology.parse(url, timeout_ms=timeout_ms, max_connections=5).client()


def test_all_facts_of_a_server_of_the_shipped_file(flavour, start):
    server = start(redis_files.with_file(flavour, redis_files.SINGLE))
    with client_of(server.url) as client:
        before = client.config_get("*"), client.info("commandstats")
        (facts,) = read_servers(client)
        after = client.config_get("*"), client.info("commandstats")
        assert facts.scripts is Scripts.NOT_LOADED
        client.script_load(scripts.load("check").source)
        assert read_servers(client)[0].scripts is Scripts.READY
        assert client.dbsize() == 0
    assert facts.address == f"127.0.0.1:{server.port}"
    assert (facts.error, facts.refused, facts.scripts_error) == ("", (), "")
    assert facts.flavour == flavour.title()
    assert facts.speaks >= MINIMUM_VERSION
    assert (facts.role, facts.replicas, facts.clustered) == ("primary", 0, False)
    assert (facts.maxmemory, facts.policy, facts.evicted) == (2 << 30, "noeviction", 0)
    assert 0 < facts.used_memory < 2 << 30
    assert (facts.timeout_s, facts.clients) == (300, 1)
    assert facts.maxclients > 0
    assert (facts.append_only, facts.snapshots) == (False, False)
    assert 0 < facts.round_trip_us < 1_000_000
    assert before[0] == after[0]
    asked = {name for name in after[1] if name not in before[1]}
    assert asked <= {"cmdstat_ping", "cmdstat_info", "cmdstat_evalsha"}


def test_what_is_set_otherwise_is_read_so(flavour, start):
    options = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--timeout", "7"]
    primary = start(RedisProcess(flavour, options))
    with client_of(primary.url) as client:
        client.config_set("save", "3600 1")
        client.config_set("appendonly", "yes")
        replica = start(RedisProcess(flavour, ["--replicaof", f"127.0.0.1 {primary.port}"]))
        wait_for(lambda: read_servers(client)[0].replicas == 1)
        (facts,) = read_servers(client)
    assert (facts.maxmemory, facts.policy, facts.timeout_s) == (100 << 20, "allkeys-lru", 7)
    assert (facts.append_only, facts.snapshots) == (True, True)
    with client_of(replica.url) as client:
        assert read_servers(client)[0].role == "replica"


def test_whom_an_acl_keeps_from_asking_knows_nothing_but_the_scripts(flavour, start):
    server = start(redis_files.with_users(flavour))
    site = client_of(redis_files.url("iota", f"127.0.0.1:{server.port}"))
    operator = client_of(redis_files.url("iota-operator", f"localhost:{server.port}"))
    (alone,) = read_servers(site)
    assert (alone.error, alone.version, alone.policy, alone.timeout_s) == ("", None, None, None)
    assert [refused.split(":")[0] for refused in alone.refused] == ["INFO", "CONFIG GET timeout"]
    assert alone.scripts is Scripts.NOT_LOADED
    (together,) = read_servers(site, operator)
    assert (together.policy, together.timeout_s, together.refused) == ("noeviction", 300, ())
    assert together.scripts is Scripts.NOT_LOADED
    assert read_servers(operator)[0].scripts is Scripts.REFUSED
    stranger = client_of(f"redis://nobody:secret@127.0.0.1:{server.port}")
    (seen,) = read_servers(site, stranger)
    assert seen.error == ""
    assert "as the operator: AuthenticationError" in seen.refused[0]
    assert "secret" not in repr(seen)
    for client in (site, operator, stranger):
        client.close()


def test_info_alone_tells_the_policy_where_config_is_refused(flavour, start):
    """As managed services have it."""
    server = start(RedisProcess(flavour, ["--rename-command", "CONFIG", ""]))
    with client_of(server.url) as client:
        (facts,) = read_servers(client)
    assert (facts.policy, facts.maxmemory, facts.timeout_s) == ("noeviction", 0, None)
    assert facts.refused[0].startswith("CONFIG GET timeout: ")


def test_scripts_that_are_switched_off_are_refused(flavour, start):
    server = start(RedisProcess(flavour, ["--rename-command", "EVALSHA", ""]))
    with client_of(server.url) as client:
        (facts,) = read_servers(client)
    assert facts.scripts is Scripts.REFUSED
    assert "unknown command" in facts.scripts_error


def test_a_server_that_is_away_frozen_or_refuses_the_password_is_an_error_in_time(flavour, start):
    server = start(RedisProcess(flavour, ["--requirepass", "x"], "redis://:x@127.0.0.1:{port}"))
    with client_of(f"redis://:wrong@127.0.0.1:{server.port}") as client:
        (facts,) = read_servers(client)
        assert "AuthenticationError" in facts.error
    with client_of(server.url, timeout_ms=200) as client:
        server.pause()
        began_s = time.monotonic()
        (facts,) = read_servers(client)
        assert time.monotonic() - began_s < 5
        server.resume()
        assert "Timeout" in facts.error
        server.stop()
        (facts,) = read_servers(client)
        assert "ConnectionError" in facts.error
        assert facts.scripts is Scripts.UNKNOWN


def test_a_socket_is_named_by_its_path(flavour, start):
    server = start(on_unix_socket(flavour))
    with client_of(server.url) as client:
        (facts,) = read_servers(client)
    assert facts.address == str(server.folder / "socket")


def test_every_node_of_a_cluster_is_read(flavour, start):
    nodes = [
        start(
            redis_files.with_file(flavour, redis_files.CLUSTER, "--cluster-port", str(free_port()))
        )
        for _ in range(2)
    ]
    with nodes[0].client() as first, nodes[1].client() as second:
        first.execute_command("CLUSTER ADDSLOTSRANGE", 0, 8_000)
        second.execute_command("CLUSTER ADDSLOTSRANGE", 8_001, 16_383)
        second.execute_command("CLUSTER SET-CONFIG-EPOCH", 2)
        bus = second.config_get("cluster-port")["cluster-port"]
        first.execute_command("CLUSTER MEET", "127.0.0.1", nodes[1].port, bus)
        for node in (first, second):
            wait_for(lambda node=node: node.cluster("INFO")["cluster_state"] == "ok")
            wait_for(lambda node=node: node.cluster("INFO")["cluster_known_nodes"] == "2")
    client = RedisCluster.from_url(nodes[0].url)
    facts = read_servers(client)
    assert {one.address for one in facts} == {f"127.0.0.1:{node.port}" for node in nodes}
    assert all(one.clustered and one.role == "primary" and not one.error for one in facts)
    nodes[1].kill()
    errors = {one.address: bool(one.error) for one in read_servers(client)}
    assert errors[f"127.0.0.1:{nodes[1].port}"] is True
    assert errors[f"127.0.0.1:{nodes[0].port}"] is False
    client.close()


@pytest.mark.parametrize(
    ("kind", "servers", "named"),
    [
        ("plain", 1, r"127.0.0.1:\d+"),
        ("sentinel", 1, "main, by Sentinel"),
        ("cluster", 6, r"127.0.0.1:\d+"),
    ],
)
def test_every_kind_of_url_leads_to_its_servers(kind, servers, named):
    with serving(kind, "valkey") as url:
        facts = read_urls(url)
        assert len(facts) == servers
        assert all(re.fullmatch(named, one.address) and not one.error for one in facts)
        assert {one.scripts for one in facts} <= {Scripts.NOT_LOADED, Scripts.READY}
    (gone,) = read_urls(url)
    assert gone.error


def test_the_oldest_version_is_what_the_servers_own_documentation_says_of_our_commands(each_redis):
    """Of every command in lua/ and of those that redis-py is asked for: when it came, and when
    what we use of it did."""
    source = "".join(
        part.read_text()
        for part in (files(scripts.__package__) / "lua").iterdir()
        if part.name.endswith(".lua")
    )
    names = set(re.findall(r"call\('(\w+)'", source))
    names |= {"EVALSHA", "UNLINK", "ZREM", "HMGET", "XRANGE", "XADD", "HGET", "SET", "PFADD"}
    assert {"GET", "LPOP", "ZCOUNT", "TIME"} <= names
    used_since = {
        "LPOP": "count",
        "XRANGE": "exclusive",
        "HSET": "multiple",
    }
    with each_redis.client() as client:
        client.response_callbacks.clear()
        documented = client.execute_command("COMMAND", "DOCS", *names)
    documents = _pairs(documented)
    assert {name.decode().upper() for name in documents} == names
    needed = (0, 0, 0)
    for name, document in documents.items():
        said = _pairs(document)
        needed = max(needed, _version(said[b"since"]))
        word = used_since.get(name.decode().upper())
        changes = [row for row in said.get(b"history", []) if word and word in row[1].decode()]
        assert bool(changes) is bool(word), name
        for since, _ in changes:
            needed = max(needed, _version(since))
    assert needed[:2] == MINIMUM_VERSION


def _pairs(reply):
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def _version(text: bytes) -> tuple[int, ...]:
    return tuple(map(int, text.decode().split(".")))
