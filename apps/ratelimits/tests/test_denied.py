"""Whom limits denied: what is kept of it on real servers, and that it stays bounded."""

from __future__ import annotations

import pytest

from apps.ratelimits.policy.identity import digest
from apps.ratelimits.storage.denied import (
    HOUR_S,
    KEPT_S,
    MOST_PER_HOUR,
    MOST_RECENT,
    Batch,
    Denial,
    DeniedMost,
    DeniedStore,
    decode,
    encode,
)
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.keys import Keys
from tests.servers import RedisProcess

KEYS = Keys("iota:")
HOUR = 500_000
NOW_S = HOUR * HOUR_S + 100.0


def who(name: object) -> str:
    return digest(b"key", str(name))


def denial(number: int = 1, **changes) -> Denial:
    values = {
        "at_ms": 1_000 + number,
        "method": "GET",
        "path": "/api/test",
        "address": who("address"),
        "counted": ((1, who(number)), (2, who("all"))),
        "denied": (1,),
    }
    return Denial(**{**values, **changes})


def most(limit: int, hour: int, **rows: int):
    return {(limit, hour): {who(name): (times, 0, ()) for name, times in rows.items()}}


@pytest.fixture(params=["one", "cluster"])
def store(request):
    if request.param == "cluster":
        from apps.ratelimits.storage.topology import Topology

        started = request.getfixturevalue("cluster")
        client = Topology.parse(started.url, timeout_ms=2_000, max_connections=4).client()
        client.delete(KEYS.denied)
        for limit in range(1, 6):
            for hour in range(HOUR - 30, HOUR + 2):
                client.delete(KEYS.denied_most(limit, hour))
    else:
        client = request.getfixturevalue("redis_client")
    yield DeniedStore(client, KEYS)
    if request.param == "cluster":
        client.close()


def test_what_is_added_is_read_again_the_newest_first(store):
    named = denial(3, names={1: (("address", "203.0.113.9"), ("user", "5"))}, times=7, whole=False)
    store.add(Batch([denial(1), denial(2)], {}))
    store.add(Batch([named], most(1, HOUR, ada=3)))
    found = store.recent()
    assert [one.at_ms for one in found] == [1_003, 1_002, 1_001]
    assert found[0].names == named.names
    assert (found[0].times, found[0].whole, found[0].digest(2)) == (7, False, who("all"))
    assert store.recent(1) == found[:1]
    assert store.get(found[1].id) == found[1]
    assert store.get("1-1") is None


def test_most_denied_are_added_up_over_processes_and_hours(store):
    store.add(Batch([], {**most(1, HOUR, ada=3, bob=5), **most(2, HOUR, ada=1)}))
    store.add(Batch([], most(1, HOUR, ada=4)))
    store.add(Batch([], most(1, HOUR - 1, bob=4)))
    day = store.top(1, NOW_S - 86_400, NOW_S, 10)
    assert day == [DeniedMost(who("bob"), 9, 9), DeniedMost(who("ada"), 7, 7)]
    assert store.top(1, NOW_S, NOW_S, 1) == [DeniedMost(who("ada"), 7, 7)]
    assert store.top(3, NOW_S - 86_400, NOW_S, 10) == []


def test_names_stay_beside_the_digest(store):
    names = (("user", "5"),)
    store.add(Batch([], {(1, HOUR): {who("ada"): (1, 0, names)}}))
    store.add(Batch([], most(1, HOUR, ada=1)))
    assert store.top(1, NOW_S, NOW_S, 1) == [DeniedMost(who("ada"), 2, 2, names)]


def test_an_attack_from_ever_new_addresses_fills_neither_and_hides_nobody(store):
    """One in fourteen of its requests comes from one address: that is the first."""
    client = store._client
    for second in range(30):
        rows = {who((second, n)): (1, 0, ()) for n in range(MOST_PER_HOUR - 1)}
        rows[who("heavy")] = (8, 0, ())
        store.add(Batch([denial(second * 100 + n) for n in range(20)], {(1, HOUR): rows}))
    assert client.hlen(KEYS.denied_most(1, HOUR)) == MOST_PER_HOUR
    assert len(store.recent(10_000)) == MOST_RECENT
    (first,) = store.top(1, NOW_S, NOW_S, 1)
    assert first.digest == who("heavy")
    assert first.at_least == 240
    # Of the others each came once, whatever it took over.
    assert {one.at_least for one in store.top(1, NOW_S, NOW_S, 200)[1:]} == {1}
    for key in (KEYS.denied_most(1, HOUR), KEYS.denied):
        assert 0 < client.ttl(key) <= KEPT_S


def test_it_takes_little_memory(redis_client):
    store = DeniedStore(redis_client, KEYS)
    rows = {who(n): (n, 0, ()) for n in range(MOST_PER_HOUR)}
    wide = tuple((limit, who(limit)) for limit in range(20))
    for _ in range(20):
        store.add(Batch([denial(n, counted=wide, path="/" + 199 * "x") for n in range(20)], {}))
    store.add(Batch([], {(1, HOUR): rows}))
    assert redis_client.memory_usage(KEYS.denied_most(1, HOUR)) < 10_000
    assert redis_client.memory_usage(KEYS.denied) < 500_000


def test_of_another_form_is_nothing():
    assert decode(encode(denial()), "1-1") == denial(id="1-1")
    for text in ("", "{}", "[]", '{"t": "x"}', '{"t": 1, "c": 5}'):
        assert decode(text) is None


def test_what_somebody_wrote_into_a_hash_is_passed_over(redis_client):
    redis_client.hset(KEYS.denied_most(1, HOUR), mapping={"a": "x", "b": "1", who("c"): "3 1 {"})
    store = DeniedStore(redis_client, KEYS)
    assert store.top(1, NOW_S, NOW_S, 9) == [DeniedMost(who("c"), 3, 2)]
    store.add(Batch([], most(1, HOUR, ada=1)))
    assert {one.times for one in store.top(1, NOW_S, NOW_S, 9)} == {3, 1}


def test_a_server_that_is_away_is_unavailable():
    server = RedisProcess().start()
    client = server.client()
    server.stop()
    store = DeniedStore(client, KEYS)
    with pytest.raises(Unavailable):
        store.add(Batch([denial()], {}))
    with pytest.raises(Unavailable):
        store.recent()
    with pytest.raises(Unavailable):
        store.top(1, NOW_S, NOW_S, 1)


def test_recent_denials_are_not_lost_where_the_server_has_no_room(redis_client):
    """EXPIRE works there, and XADD does not."""
    store = DeniedStore(redis_client, KEYS)
    redis_client.config_set("maxmemory", "1")
    try:
        sent = store.add(Batch([denial()], {}))
    finally:
        redis_client.config_set("maxmemory", "0")
    assert not sent.recent
    assert isinstance(sent.failed, Unavailable)
    assert store.recent() == []
    assert store.add(Batch([denial()], {})).recent
    assert len(store.recent()) == 1
