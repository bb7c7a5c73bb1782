"""REDIS_URL of every kind: read, refused with a reason, and connected to on real servers."""

from __future__ import annotations

import contextlib
import time

import pytest
import redis
import redis.asyncio
from redis.crc import key_slot

from apps.ratelimits.storage.connections import Connections
from apps.ratelimits.storage.packing import command
from apps.ratelimits.storage.pipelining import Pipeline
from apps.ratelimits.storage.topology import Kind, Sentinels, Topology
from tests.clusters import ClusterProcesses
from tests.proxies import Proxy
from tests.servers import free_port, plain
from tests.topologies import KINDS, running, serving, watched


def parse(url: str, timeout_ms: int = 500) -> Topology:
    return Topology.parse(url, timeout_ms=timeout_ms, max_connections=5)


@pytest.mark.parametrize(
    ("url", "kind", "addresses"),
    [
        ("redis://h", Kind.SINGLE, [("h", 6379)]),
        ("redis://h:/", Kind.SINGLE, [("h", 6379)]),
        ("rediss://u:p@h:7/3", Kind.SINGLE, [("h", 7)]),
        ("redis://[::1]:7/3", Kind.SINGLE, [("::1", 7)]),
        ("unix:///run/r.sock", Kind.SINGLE, []),
        ("redis+sentinel://a,b:7/main", Kind.SENTINEL, [("a", 26379), ("b", 7)]),
        ("rediss+sentinel://u:p@[::1]:7,b/main/2", Kind.SENTINEL, [("::1", 7), ("b", 26379)]),
        ("redis+cluster://a,b:7", Kind.CLUSTER, [("a", 6379), ("b", 7)]),
        ("rediss+cluster://:p@a:7,[::1]/0", Kind.CLUSTER, [("a", 7), ("::1", 6379)]),
    ],
)
def test_a_url_says_which_servers(url, kind, addresses):
    topology = parse(url)
    assert (topology.kind, list(topology.addresses)) == (kind, addresses)
    assert topology.tls is url.startswith("rediss")


def test_what_stands_in_a_url_reaches_each_connection():
    url = "redis://us%3Aer:p%40%2F@h:7/3?client_name=web%201&socket_timeout=2&socket_keepalive=no"
    for pool in (parse(url).pool(), parse(url).async_pool()):
        made = pool.connection_kwargs
        assert (made["username"], made["password"]) == ("us:er", "p@/")
        assert (made["db"], made["client_name"]) == (3, "web 1")
        # What the URL says wins.
        assert (made["socket_timeout"], made["socket_connect_timeout"]) == (2, 0.5)
        assert made["socket_keepalive"] is False
    assert parse("redis://h/1?db=2").pool().connection_kwargs["db"] == 2
    made = parse("redis+sentinel://:data@a/ma%2Fin/4?sentinel_password=watch").pool()
    assert (made.service_name, made.connection_kwargs["db"]) == ("ma/in", 4)
    assert made.connection_kwargs["password"] == "data"
    assert made.sentinel_manager._options["password"] == "watch"
    made = parse("rediss+cluster://u:p@a?ssl_cert_reqs=none").pool(("b", 7))
    made = made.connection_class(**made.connection_kwargs)
    assert (made.host, made.port, made.username, made.password) == ("b", 7, "u", "p")
    assert made.check_hostname is False


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://h", "begin it with redis://, rediss://"),
        ("redis:h", "begin it with"),
        ("redis+cluster:/h", "begin it with"),
        ("redis://", "host is missing"),
        ("redis://:hunter2@", "host is missing"),
        ("redis://:hunter/2@h", "host is missing"),
        ("redis://:hunter#2@h", "%23"),
        ("redis://a,b", "host is missing"),
        ("redis://h:99999", "out of range"),
        ("redis://h:0", "from 1 to 65535"),
        ("redis://h:hunter2", "host is missing"),
        ("redis://h/abc", "database is no number"),
        ("redis://h?db=abc", "'db'"),
        ("redis://h?socket_timeout=soon", "socket_timeout"),
        ("redis://h?protocol=7", "protocol"),
        ("redis://h?retry=3", "no option 'retry'; there are client_name"),
        ("redis://h?decode_responses=1", "no option 'decode_responses'"),
        ("redis://h?ssl_ca_certs=/x", "begins with rediss"),
        ("rediss://h?ssl_cert_reqs=maybe", "maybe"),
        ("redis://h?sentinel_password=x", "no option"),
        ("unix://", "three slashes"),
        ("unix://run/r.sock", "three slashes"),
        ("redis+sentinel://h", "name for the primary"),
        ("redis+sentinel://h/main/db", "database is no number"),
        ("redis+sentinel://h,/main", "host is missing"),
        ("redis+sentinel://:hunter2@a,:hunter2@b/main", "before the first host"),
        ("redis+cluster://h/1", "only database 0"),
        ("redis+cluster://h?db=1", "only database 0"),
    ],
)
def test_a_wrong_url_is_refused_with_the_reason_and_without_its_password(url, reason):
    with pytest.raises(ValueError, match=r"begin it with|write it as") as caught:
        parse(url)
    assert reason in str(caught.value)
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@h",
        "redis+sentinel://:hunter2@h/main?sentinel_password=hunter2",
        "redis+cluster://u:hunter2@h",
    ],
)
def test_no_password_is_in_the_repr(url):
    assert "hunter2" not in repr(parse(url))


def test_only_a_node_of_a_cluster_has_an_address():
    for make in (Topology.pool, Topology.async_pool):
        with pytest.raises(ValueError, match="node of a cluster"):
            make(parse("redis+cluster://h"))
        with pytest.raises(ValueError, match="node of a cluster"):
            make(parse("redis://h"), ("h", 1))


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def url(request):
    """The REDIS_URL of a real server, or of several."""
    with serving(*request.param) as found:
        yield found


def place(topology: Topology):
    """Of a cluster any node does for what has no key."""
    return topology.addresses[0] if topology.kind is Kind.CLUSTER else None


def test_every_kind_of_server_is_reached(url):
    topology = parse(url, 2_000)
    made = Connections(topology.pool(place(topology)), 2, 2.0)
    assert made.ask(command("ECHO", "hello")) == b"hello"
    made.close()
    client = topology.client()
    client.set("name", b"ada")
    pipeline = client.pipeline(transaction=False)
    pipeline.get("name")
    pipeline.incr("count")
    assert pipeline.execute() == [b"ada", 1]
    client.delete("name", "count")
    client.close()


async def test_every_kind_of_server_is_reached_from_an_event_loop(url):
    topology = parse(url, 2_000)
    pipeline = Pipeline(topology.async_pool(place(topology)), 2.0)
    assert await pipeline.ask(command("ECHO", "hello")) == b"hello"
    await pipeline.close()


def test_a_sentinels_database_is_used():
    with running(plain("valkey")) as server, watched(server) as url:
        client = parse(url).client()
        client.set("name", "ada")
        assert client.connection_pool.connection_kwargs["db"] == 2
        with server.client() as direct:
            assert direct.info("keyspace")["db2"]["keys"] == 1
        client.close()


@pytest.mark.parametrize("kind", ["plain", "sentinel", "cluster"])
def test_a_command_without_a_reply_is_not_sent_again(kind, request):
    """The server is frozen, not gone: all that was sent it does once it goes on."""
    with contextlib.ExitStack() as stack:
        if kind == "cluster":
            # The others still answer, so that redis-py would learn who to send it to again.
            servers = stack.enter_context(running(ClusterProcesses(node_timeout_ms=30_000)))
            url, server = servers.url, servers.owner_of(key_slot(b"single"))
        else:
            server = stack.enter_context(running(plain("valkey")))
            url = server.url
            if kind == "sentinel":
                url = stack.enter_context(watched(server))
        client = parse(url, 100).client()
        client.set("single", 0)
        server.pause()
        began_s = time.monotonic()
        with pytest.raises(redis.RedisError):
            client.incr("single")
        pipeline = client.pipeline(transaction=False)
        for name in "abcdef":
            pipeline.incr(name)
        with pytest.raises(redis.RedisError):
            pipeline.execute()
        assert time.monotonic() - began_s < 5
        server.resume()
        client.close()
        client = parse(url, 5_000).client()
        counts = [int(client.get(name) or 0) for name in ("single", *"abcdef")]
        assert max(counts) == 1
        client.close()


def test_a_sentinel_that_is_lost_is_passed_over_and_asked_last():
    with running(plain("valkey")) as server, watched(server) as url:
        alive = int(url.rpartition(":")[2].partition("/")[0])
        addresses = [("127.0.0.1", free_port()), ("127.0.0.1", alive)]
        options = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
        sentinels = Sentinels(addresses, options)
        assert sentinels.discover_master("main") == ("127.0.0.1", server.port)
        assert list(sentinels._addresses) == addresses[::-1]
        with pytest.raises(redis.ConnectionError, match="No master found"):
            sentinels.discover_master("another")


def test_no_connection_to_a_sentinel_is_kept():
    with running(plain("valkey")) as server, watched(server) as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        with contextlib.closing(Proxy(port)) as proxy:
            client = parse(url.replace(str(port), str(proxy.port))).client()
            assert client.ping()
            assert proxy.accepted >= 1
            deadline = time.monotonic() + 5
            while any(each.fileno() >= 0 for each in proxy._clients):
                assert time.monotonic() < deadline, "a connection stayed open"
                time.sleep(0.01)
            client.close()
