"""The record: packed and unpacked, bounded in Redis, and gone when it is old."""

from __future__ import annotations

from array import array

import pytest

from apps.ratelimits.policy.traffic import (
    TOOK_UNKNOWN,
    Batch,
    Outcome,
    What,
    Who,
    coarse_network,
    together,
)
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.topology import Topology
from apps.ratelimits.storage.traffic import BYTES_PER_RECORD, TrafficStore, pack, unpack

KEYS = Keys("iota:")
NOW_US = 1_800_000_000_000_000


def batch(count: int, at_us: int = NOW_US, name: str = "") -> Batch:
    made = Batch(
        [What("GET", "/a", "", "a", (("pk", "x"),)), What("POST", "/{*b}", "h", None, ())],
        [
            Who(f"{name}one", "203.0.113.0/24", None, False, None, None, (), ()),
            Who(f"{name}two", "unknown", "u", True, ("1",), "s", (("x", "k"),), ("x",)),
        ],
        [Outcome(200, ()), Outcome(429, (3, 4))],
    )
    for number in range(count):
        made.at_us.append(at_us + number * 1_000)
        made.took_us.append(TOOK_UNKNOWN if number % 5 == 0 else number)
        for column in (made.what, made.who, made.outcome):
            column.append(number % 2)
    return made


@pytest.fixture
def store(each_redis):
    client = Topology.parse(each_redis.url, timeout_ms=1_000, max_connections=2).client()
    client.flushdb()
    yield TrafficStore(client, KEYS, 1_000, 60)
    client.close()


def test_a_batch_comes_back_as_it_was():
    made = batch(100)
    made.sample, made.lost = 7, 3
    assert unpack(pack(made)) == made
    assert unpack(pack(Batch())) == Batch()


@pytest.mark.parametrize("damaged", [b"", b"\x02abc", b"\x01abc", pack(batch(10))[:-9]])
def test_what_cannot_be_read_is_passed_over(damaged):
    assert unpack(damaged) is None


def test_batches_become_one_in_order_of_time():
    whole = together([batch(3, NOW_US + 1_500), batch(3, NOW_US, "other")])
    assert list(whole.at_us) == sorted(whole.at_us)
    names = [whole.whos[who].address for who in whole.who]
    assert names == ["otherone", "othertwo", "one", "otherone", "two", "one"]
    assert len(whole.whats) == 2


def test_only_the_newest_are_kept(store):
    for number in range(40):
        store.add(batch(100, NOW_US + number * 1_000_000))
    kept = list(map(unpack, store.packed()))
    assert [len(each) for each in kept] == [100] * 10
    assert kept[-1].at_us[0] == NOW_US + 39_000_000


def test_small_batches_count_by_their_bytes(store):
    for number in range(1_000):
        store.add(batch(1, NOW_US + number))
    kept = len(store.read())
    assert 0 < kept < 1_000
    size = store._client.memory_usage(KEYS.traffic, samples=0)
    assert size <= 2 * 1_000 * BYTES_PER_RECORD


def test_it_ends_where_nobody_comes(store):
    store.add(batch(1))
    for key in (KEYS.traffic, KEYS.traffic_upto):
        assert 0 < store._client.pttl(key) <= 60_000


def test_the_old_go_though_there_is_room(store):
    old = 1_000_000
    fields = {"from": 0, "n": 1, "data": pack(batch(1))}
    store._client.xadd(KEYS.traffic, fields, id=f"{old}-0")
    store.add(batch(2))
    assert len(store.read()) == 2


def test_a_lost_count_begins_anew(store):
    for _ in range(5):
        store.add(batch(100))
    store._client.delete(KEYS.traffic_upto)
    for _ in range(30):
        store.add(batch(100))
    assert len(store.read()) == 1_000


def test_many_batches_are_read_page_by_page(store):
    large = TrafficStore(store._client, KEYS, 1_000_000, 60)
    for number in range(200):
        large.add(batch(1, NOW_US + number))
    assert len(list(large.packed())) == 200


def test_redis_away_is_said():
    client = Topology.parse("redis://127.0.0.1:1/0", timeout_ms=100, max_connections=1).client()
    gone = TrafficStore(client, KEYS, 1_000, 60)
    with pytest.raises(Unavailable):
        gone.add(batch(1))
    with pytest.raises(Unavailable):
        gone.read()


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("2001:db8::/40", "2001:db8::/40"),
        ("unknown", "unknown"),
    ],
)
def test_of_an_address_its_network_stays(address, network):
    assert coarse_network(address) == network


def test_columns_are_arrays():
    assert isinstance(unpack(pack(batch(2))).at_us, array)
