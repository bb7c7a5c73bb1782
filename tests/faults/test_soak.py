"""The soak sees what leaks."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from .faults import NETWORK_FAULTS, SERVER_FAULTS
from .soak import (
    MOST_MORE_CONNECTIONS,
    MOST_MORE_FILES,
    MOST_MORE_RSS,
    MOST_MORE_THREADS,
    Sample,
    drawn,
    leaks,
    left_in_redis,
)

BEFORE = Sample(rss=(80 << 20, 80 << 20), threads=(5, 5), files=(26, 29), clients=7, keys=200)


def test_more_than_a_bound_is_a_leak_in_any_process():
    assert leaks(BEFORE, BEFORE) == []
    bounds = {
        "rss": (80 << 20, (80 << 20) + MOST_MORE_RSS),
        "threads": (5, 5 + MOST_MORE_THREADS),
        "files": (26, 29 + MOST_MORE_FILES),
        "clients": 7 + MOST_MORE_CONNECTIONS,
    }
    assert leaks(BEFORE, replace(BEFORE, **bounds)) == []
    for name, most in bounds.items():
        over = most + 1 if isinstance(most, int) else (most[0], most[1] + 1)
        assert len(leaks(BEFORE, replace(BEFORE, **{name: over}))) == 1


def test_keys_that_stay_for_ever_and_slots_that_nobody_holds_are_found(redis_client):
    redis_client.hset("wsgi:ruleset", "version", 1)
    redis_client.set("wsgi:b:{a}", "x", ex=60)
    redis_client.zadd("wsgi:c:{a}:1:0", {"b": 1})
    redis_client.expire("wsgi:c:{a}:1:0", 60)
    redis_client.zrem("wsgi:c:{a}:1:0", "b")
    assert left_in_redis(redis_client, "wsgi:") == []
    redis_client.set("wsgi:b:{c}", "x")
    redis_client.zadd("wsgi:c:{d}:1:0", {"e": 1})
    redis_client.expire("wsgi:c:{d}:1:0", 60)
    assert sorted(left_in_redis(redis_client, "wsgi:")) == [
        "a key without TTL: wsgi:b:{c}",
        "slots that nobody holds: wsgi:c:{d}:1:0",
    ]


def test_each_fault_comes_once_before_any_comes_again():
    every = {*SERVER_FAULTS, *NETWORK_FAULTS}
    faults = list(islice(drawn(1), 2 * len(every)))
    assert set(faults[: len(every)]) == set(faults[len(every) :]) == every
