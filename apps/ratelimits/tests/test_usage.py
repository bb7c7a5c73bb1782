"""Totals of what the limiter did: what a reading means, and how they are kept on real servers."""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import replace
from itertools import pairwise

import pytest

from apps.ratelimits.storage import usage as module
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.usage import (
    CHECK_BOUNDS_US,
    CHECKS,
    NOTHING,
    LimitUsage,
    Usage,
    UsageStore,
    decode,
    limit_fields,
    percentile_us,
)
from tests.servers import RedisProcess, flavours, sentinel

from .limiters import make_limiter

KEYS = Keys("iota:")
BUCKETS = len(CHECK_BOUNDS_US) + 1


def histogram(times_us):
    buckets = [0] * BUCKETS
    for took_us in times_us:
        buckets[bisect_left(CHECK_BOUNDS_US, took_us)] += 1
    return buckets


@pytest.mark.parametrize("p", [0, 1, 50, 90, 99, 99.9, 100])
def test_a_percentile_is_in_the_bucket_of_the_true_one(p):
    chance = random.Random(7)
    times = sorted(chance.lognormvariate(6, 1.5) for _ in range(5_000))
    rank = max(0, -(-len(times) * p // 100) - 1)
    true_us = times[int(rank)]
    found_us = percentile_us(histogram(times), p)
    at = bisect_left(CHECK_BOUNDS_US, true_us)
    lower = CHECK_BOUNDS_US[at - 1] if at else 0
    upper = CHECK_BOUNDS_US[min(at, len(CHECK_BOUNDS_US) - 1)]
    assert min(lower, upper) <= found_us <= upper


def test_a_percentile_is_linear_within_its_bucket():
    buckets = histogram([301] * 100)  # Of 300 to 400.
    assert percentile_us(buckets, 50) == 350
    assert percentile_us(buckets, 99) == 399
    assert percentile_us(buckets, 100) == 400
    assert percentile_us(histogram([10] * 50 + [9_000] * 50), 50) == 50


def test_of_no_checks_there_is_no_percentile_and_of_endless_ones_a_lower_bound():
    assert percentile_us([0] * BUCKETS, 99) is None
    assert percentile_us(histogram([10, 5_000_000]), 99) == CHECK_BOUNDS_US[-1]


def test_what_an_edge_is_wide_is_what_the_docstring_says():
    edges = [
        (upper - lower) / lower for lower, upper in pairwise(CHECK_BOUNDS_US[1:]) if upper <= 25_000
    ]
    assert max(edges) <= 2 / 3


def test_the_difference_of_two_readings_is_what_came_between():
    before = Usage(1.0, requests=5, errors=1, allowed=3, denied=2, limits={1: LimitUsage(3, 2)})
    after = Usage(
        1.0,
        requests=9,
        errors=1,
        allowed=6,
        denied=3,
        checks=(4, *[0] * (BUCKETS - 1)),
        checks_sum_us=80,
        limits={1: LimitUsage(4, 3, 1), 2: LimitUsage(2)},
    )
    assert after.since(before) == replace(
        after,
        requests=4,
        errors=0,
        allowed=3,
        denied=1,
        limits={1: LimitUsage(1, 1, 1), 2: LimitUsage(2)},
    )
    assert after.since(after).limits == {1: NOTHING, 2: NOTHING}
    slower = replace(after, limits={1: replace(after.limits[1], sum_us=90)})
    assert slower.since(after).limits[1].sum_us == 90


def test_totals_that_began_anew_are_all_new():
    before, after = Usage(1.0, requests=50), Usage(2.0, requests=3, limits={1: LimitUsage(1)})
    assert after.since(before) == after


def test_a_total_that_went_back_a_little_is_no_negative_number():
    before, after = Usage(1.0, requests=50, allowed=9), Usage(1.0, requests=48, allowed=10)
    assert (after.since(before).requests, after.since(before).allowed) == (0, 1)


def test_what_another_version_wrote_is_passed_over():
    found = {"since": "2500000", "requests": "4", "waits": "9", "limit:7:denied": "2"}
    found |= {
        "limit:7:throttled": "8",
        "limit:x:denied": "1",
        "p:ab": "3 17",
        "odd": "-1",
        "a:b": "",
    }
    found |= {"check:50": "2", "check:70": "3", "check:2000000": "4", "check:over": "1"}
    read = decode(found)
    assert (read.since_s, read.requests, read.errors) == (2.5, 4, 0)
    assert read.limits == {7: LimitUsage(denied=2)}
    assert (read.checks[0], read.checks[1], read.checks[-1]) == (2, 3, 5)


@pytest.fixture
def client(each_redis):
    with each_redis.client() as made:
        made.flushdb()
        yield made


@pytest.fixture
def store(client):
    return UsageStore(client, KEYS)


def test_before_anybody_counted_all_is_nothing(store):
    assert store.read() == Usage(0.0)


def test_batches_of_all_processes_add_up(client, store):
    began_s = client.time()[0] - 1
    for process in ("a", "b"):
        for batch in (1, 2):
            assert store.add(process, batch, {"requests": 3, "limit:1:allowed": 2, "check:50": 2})
    read = store.read()
    assert (read.requests, read.limits) == (12, {1: LimitUsage(allowed=8)})
    assert (read.checks[0], sum(read.checks)) == (8, 8)
    assert began_s < read.since_s < began_s + 10
    assert client.keys() == [KEYS.usage.encode()]


def test_a_batch_that_comes_twice_counts_once(store):
    assert store.add("a", 1, {"requests": 3})
    assert not store.add("a", 1, {"requests": 3})
    assert store.add("a", 2, {"requests": 1})
    assert not store.add("a", 1, {"requests": 3})
    assert store.add("b", 1, {"requests": 5})
    assert store.read().requests == 9


def test_more_fields_than_a_call_in_lua_takes(store):
    counted = {name: 1 for number in range(3_000) for name in limit_fields(number)}
    assert store.add("a", 1, counted)
    assert store.add("a", 2, counted)
    read = store.read()
    assert len(read.limits) == 3_000
    assert set(read.limits.values()) == {LimitUsage(2, 2, 2, 2)}
    assert {own.sum_us for own in read.limits.values()} == {2}


def test_large_totals_stay_exact(store):
    store.add("a", 1, {"checks_sum_us": 2**52})
    store.add("a", 2, {"checks_sum_us": 1})
    assert store.read().checks_sum_us == 2**52 + 1


def test_deleted_limits_are_forgotten_and_nothing_else(store):
    store.add("a", 1, {"requests": 1, **{name: 1 for n in (1, 2, 12) for name in limit_fields(n)}})
    assert store.forget([1, 2, 99]) == 10
    assert store.forget([]) == 0
    assert (store.read().requests, list(store.read().limits)) == (1, [12])


def test_processes_that_ended_are_dropped_and_not_those_that_speak(client, store, monkeypatch):
    for process in ("old", "mine"):
        store.add(process, 1, {"requests": 1})
    long_ago = int(client.time()[0]) - module.REMEMBERED_S - 1
    client.hset(KEYS.usage, "p:old", f"1 {long_ago}")
    client.hset(KEYS.usage, "swept", long_ago)
    store.add("mine", 2, {"requests": 1})
    assert client.hget(KEYS.usage, "p:old") is None
    assert not store.add("mine", 2, {"requests": 1})
    assert store.read().requests == 3


def test_a_reading_is_one_call(client, store):
    before = client.info("stats")["total_commands_processed"]
    store.read()
    assert client.info("stats")["total_commands_processed"] == before + 2  # INFO is one too.


def test_a_field_that_is_no_number_stops_nobody(client, store):
    client.hset(KEYS.usage, "requests", "many")
    store.add("a", 1, {"requests": 2})
    assert store.read().requests == 2


def test_where_redis_does_not_answer():
    server = RedisProcess().start()
    limiter = make_limiter(server.url)
    store = UsageStore(limiter.client, KEYS)
    store.read()
    server.kill()
    for work in (store.read, lambda: store.add("a", 1, {"x": 1}), lambda: store.forget([1])):
        with pytest.raises(Unavailable):
            work()
    limiter.close()
    server.stop()


def test_on_a_cluster_the_totals_are_one_key(cluster):
    limiter = make_limiter(cluster.url, redis_timeout_ms=2_000)
    keys = Keys("usage-of-a-cluster:")
    store = UsageStore(limiter.client, keys)
    store.add("a", 1, {"requests": 2, **dict.fromkeys(limit_fields(5), 1)})
    assert not store.add("a", 1, {"requests": 2})
    assert store.read().requests == 2
    assert store.read().limits == {5: LimitUsage(1, 1, 1, 1)}
    assert store.forget([5]) == 5
    assert limiter.client.delete(keys.usage) == 1
    limiter.close()


@pytest.mark.parametrize("flavour", flavours())
def test_behind_a_sentinel(flavour):
    primary = RedisProcess(flavour).start()
    watching = sentinel(flavour, primary).start()
    limiter = make_limiter(f"redis+sentinel://127.0.0.1:{watching.port}/main/0")
    store = UsageStore(limiter.client, KEYS)
    assert store.add("a", 1, {"requests": 2})
    assert not store.add("a", 1, {"requests": 2})
    assert store.read().requests == 2
    limiter.close()
    watching.stop()
    primary.stop()


def test_every_bucket_has_a_field():
    assert len(CHECKS) == BUCKETS == len(set(CHECKS))
