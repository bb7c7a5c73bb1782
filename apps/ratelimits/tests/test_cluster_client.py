"""The client for a cluster: ready before the cluster is, and where the nodes are by now."""

from __future__ import annotations

import contextlib

import pytest
import redis
from redis.crc import key_slot
from redis.exceptions import RedisClusterException

from apps.ratelimits.policy.rules import Ruleset
from apps.ratelimits.storage.cluster_client import ClusterClient
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.ruleset_store import FIRST_LOOK, RulesetStore
from apps.ratelimits.storage.topology import Topology
from tests.clusters import ClusterProcesses
from tests.proxies import Proxy
from tests.servers import free_port


def make(url: str, timeout_ms: int = 2_000) -> ClusterClient:
    client = Topology.parse(url, timeout_ms=timeout_ms, max_connections=5).client()
    assert isinstance(client, ClusterClient)
    return client


@pytest.fixture
def client(cluster):
    made = make(cluster.url)
    yield made
    made.flushall()
    made.close()


@pytest.fixture(scope="module")
def lost():
    """A cluster that may be killed and resharded."""
    started = ClusterProcesses().start()
    yield started
    started.stop()


@pytest.mark.parametrize(
    "use", [lambda c: c.get("a"), lambda c: c.pipeline(), ClusterClient.get_nodes]
)
def test_it_is_made_while_the_cluster_is_away(use):
    client = make(f"redis+cluster://127.0.0.1:{free_port()}", 100)
    for _ in range(2):
        with pytest.raises(redis.ConnectionError, match="cannot be connected"):
            use(client)
    client.close()


def test_a_server_that_is_no_cluster_is_called_that(each_redis):
    client = make(each_redis.url.replace("redis://", "redis+cluster://"))
    with pytest.raises(redis.ConnectionError, match="Cluster mode is not enabled"):
        client.get("a")


def test_mistakes_surface_as_they_are(client):
    with pytest.raises(RedisClusterException):
        client.eval("return 1", 2, "a", "b")  # of two slots
    with pytest.raises(redis.ResponseError):
        client.eval("no lua", 1, "a")
    with pytest.raises(AttributeError):
        client.no_such_command()


def test_a_pipeline_reaches_every_node_and_raises_the_first_error(client):
    pipeline = client.pipeline(transaction=False)
    for number in range(30):
        pipeline.set(f"name {number}", number)
    pipeline.incr("name 7")
    assert pipeline.execute() == [True] * 30 + [8]
    pipeline.incr("name 8").lpush("name 9", "no list").incr("name 8")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        pipeline.execute()
    assert client.get("name 8") == b"10"


def test_what_got_no_reply_is_not_sent_again(cluster, client):
    """The connections fall silent, and new ones would work: redis-py's own pipeline uses them."""
    with contextlib.ExitStack() as stack:
        proxies = {
            n.port: stack.enter_context(contextlib.closing(Proxy(n.port))) for n in cluster.nodes
        }
        through = ClusterClient(
            [("127.0.0.1", cluster.nodes[0].port)],
            address_remap=lambda address: (address[0], proxies[address[1]].port),
            socket_timeout=0.2,
        )
        names = [f"count {number}" for number in range(12)]
        for name in names:
            through.incr(name)
        for proxy in proxies.values():
            proxy.freeze()
        pipeline = through.pipeline(transaction=False)
        for name in names:
            pipeline.incr(name)
        with pytest.raises(redis.TimeoutError):
            pipeline.execute()
        assert {client.get(name) for name in names} == {b"1"}
        assert {through.get(name) for name in names} == {b"1"}
        for proxy in proxies.values():
            proxy.freeze()
        with pytest.raises(redis.TimeoutError):
            through.incr(names[0])
        assert client.get(names[0]) == b"1"
        through.close()


def test_the_ruleset_store_works_on_a_cluster(client):
    store = RulesetStore(client, Keys("iota:"))
    assert store.look(FIRST_LOOK).version is None
    assert store.fetch() is None
    assert store.try_lock()
    assert not store.try_lock()
    assert store.publish(Ruleset(7))
    assert not store.publish(Ruleset(6))
    first = store.look(FIRST_LOOK)
    store.tell_reset(["one", "two"])
    second = store.look(first)
    assert (second.version, second.reset) == (7, {"one", "two"})
    assert store.look(second).reset == frozenset()
    assert store.version() == 7
    assert store.fetch() == Ruleset(7)


def test_a_slot_that_moves_is_followed_there(lost):
    """Also to a node without slots, of which the cluster's map says nothing."""
    client = make(lost.url)
    client.set("there", "still")
    joined = lost.join()
    slot = key_slot(b"there")
    source = lost.owner_of(slot)
    lost.begin_move(slot, source, joined)
    names = [f"{{there}}{number}" for number in range(3)]
    for name in names:  # not there yet: ASK
        client.set(name, "new")
    pipeline = client.pipeline(transaction=False)
    pipeline.get("there").get(names[0]).get("elsewhere")
    assert pipeline.execute() == [b"still", b"new", None]
    with joined.client() as direct:
        assert direct.info("keyspace")["db0"]["keys"] == 3
    lost.move_keys(slot, source, joined)
    lost.end_move(slot, source, joined)
    assert client.get("there") == b"still"  # MOVED
    pipeline.get("there").get(names[0])
    assert pipeline.execute() == [b"still", b"new"]
    client.close()


def test_a_cluster_that_was_lost_whole_is_found_again(lost):
    client = make(lost.url, 500)
    store = RulesetStore(client, Keys("iota:"))
    assert client.set("a", 1)
    nodes = lost.living()
    for node in nodes:
        lost.kill(node)
    for _ in range(2):
        with pytest.raises(Unavailable):
            store.version()
        with pytest.raises(Unavailable):
            store.look(FIRST_LOOK)
    for node in nodes:
        lost.restart(node)
    lost.wait_until_healthy()
    assert store.look(FIRST_LOOK).version is None
    assert client.get("a") is None
    client.close()
