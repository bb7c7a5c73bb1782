"""The same cache on one server, behind Sentinels and on a cluster; and without any."""

from __future__ import annotations

import contextlib
import logging
import time

import pytest
from django.conf import settings
from django.core.cache import CacheHandler

from iota.cache import _client
from tests.proxies import Proxy
from tests.servers import free_port
from tests.topologies import KINDS, serving

MANY = {f"name {number}": {"number": number} for number in range(50)}


def cache_at(url: str, prefix: str = "cache", **options):
    """The cache of the settings, elsewhere."""
    found = settings.CACHES["default"]
    made = {**found, "LOCATION": [url], "KEY_PREFIX": prefix}
    made["OPTIONS"] = {**found["OPTIONS"], **options}
    return CacheHandler({"default": made})["default"]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def url(request):
    with serving(*request.param) as found:
        yield found
    _client.cache_clear()


@pytest.fixture
def cache(url):
    made = cache_at(url, IGNORE_EXCEPTIONS=False)
    yield made
    made.clear()


def test_one_key_at_a_time(cache):
    assert cache.get("name") is None
    assert cache.get("name", "nobody") == "nobody"
    cache.set("name", ["ada", 1])
    assert cache.get("name") == ["ada", 1]
    assert cache.has_key("name")
    assert "name" in cache
    assert not cache.add("name", "grace")
    assert cache.add("other", "grace")
    assert cache.delete("name") is True
    assert cache.delete("name") is False
    assert cache.get_or_set("name", lambda: "anew") == "anew"
    assert cache.get("name", version=2) is None
    assert cache.incr_version("name") == 2
    assert (cache.get("name"), cache.get("name", version=2)) == (None, "anew")


def test_counting(cache):
    with pytest.raises(ValueError, match="not found"):
        cache.incr("count")
    cache.set("count", 2**63 - 1)
    cache.incr("count")  # too large for Redis' own numbers
    cache.set("count", 5)
    assert (cache.incr("count"), cache.decr("count", 3)) == (6, 3)


def test_many_keys_at_a_time(cache):
    assert cache.get_many([]) == {}
    assert cache.set_many(MANY) in (None, [])
    assert cache.get_many([*MANY, "absent"]) == MANY
    assert cache.delete_many(list(MANY)[:20]) == 20
    assert cache.get_many(MANY) == dict(list(MANY.items())[20:])
    assert cache.delete_many([]) == 0


def test_time_to_live(cache):
    cache.set("name", "ada", timeout=100)
    assert 90 < cache.ttl("name") <= 100
    assert cache.touch("name", 1_000)
    assert 900 < cache.ttl("name") <= 1_000
    assert not cache.touch("absent")
    assert cache.touch("name", None)
    assert cache.ttl("name") is None
    cache.set("name", "ada", timeout=0)
    assert "name" not in cache
    cache.set_many(MANY, timeout=100)
    assert all(90 < cache.ttl(name) <= 100 for name in MANY)


def test_patterns(cache):
    cache.set_many(MANY)
    cache.set("other", 1)
    assert sorted(cache.keys("name *")) == sorted(MANY)
    assert sorted(cache.iter_keys("name 1*")) == sorted(n for n in MANY if n.startswith("name 1"))
    assert cache.delete_pattern("name *") == 50
    assert cache.keys("*") == ["other"]


def test_locks(cache):
    with cache.lock("door", timeout=10):
        assert not cache.lock("door").acquire(blocking=False)
    other = cache.lock("door", timeout=10)
    assert other.acquire(blocking=False)
    other.release()


async def test_from_an_event_loop(cache):
    await cache.aset("name", "ada")
    assert await cache.aget("name") == "ada"
    assert await cache.aget_many(["name", "other"]) == {"name": "ada"}


def test_clearing_leaves_what_is_not_the_caches(cache, url):
    """The limiter's counters, its ruleset and another site's cache are in the same database."""
    client = _client(url, 500)
    others = [f"iota:b:{{{number}}}" for number in range(20)] + ["cache", "cache2:1:name"]
    for name in others:
        client.set(name, 1)
    other = cache_at(url, prefix="[c]ache")
    other.set_many(MANY)
    cache.set_many({f"name {number}": number for number in range(1_200)})
    cache.set("name", "ada", version=2)
    cache.clear()
    assert cache.keys("*") == []
    assert cache.get("name", version=2) is None
    assert [client.get(name) for name in others] == [b"1"] * len(others)
    assert other.get_many(MANY) == MANY
    other.clear()
    assert other.get_many(MANY) == {}
    for name in others:
        client.delete(name)


AWAY = [
    "redis://127.0.0.1:{port}/0",
    "unix:///no/such/socket",
    "redis+sentinel://127.0.0.1:{port}/main",
    "redis+cluster://127.0.0.1:{port}",
]


@pytest.mark.parametrize("url", AWAY)
def test_a_cache_that_is_away_holds_nothing_and_fails_nobody(url, caplog):
    caplog.set_level(logging.CRITICAL, "django_redis.cache")
    cache = cache_at(url.format(port=free_port()))
    for _ in range(2):
        began_s = time.monotonic()
        cache.set("name", "ada")
        cache.set_many(MANY)
        cache.add("name", "ada")
        cache.touch("name")
        cache.clear()
        cache.delete("name")
        cache.delete_many(MANY)
        cache.delete_pattern("*")
        cache.incr("count")
        assert cache.get("name", "nobody") == "nobody"
        assert cache.get_many(MANY) == {}
        assert not cache.has_key("name")
        assert cache.ttl("name") is None
        assert cache.keys("*") is None
        assert cache.get_or_set("name", lambda: "anew") == "anew"
        assert time.monotonic() - began_s < 10
    cache.close()


def test_a_cluster_that_comes_later_is_used(cluster):
    """Its first nodes did not answer when the site began."""
    cache = cache_at(cluster.url)
    client = _client(cluster.url, 500)
    client.begin_anew()
    first, client._first_nodes = client._first_nodes, (("127.0.0.1", free_port()),)
    assert cache.get("name") is None
    client._first_nodes = first
    cache.set("name", "ada")
    assert cache.get("name") == "ada"
    cache.clear()


def test_a_count_without_a_reply_is_not_made_again(redis_server):
    """The connection falls silent, and a new one would work."""
    with contextlib.closing(Proxy(redis_server.port)) as proxy:
        cache = cache_at(proxy.url, SOCKET_TIMEOUT=0.2)
        cache.set("count", 1)
        proxy.freeze()
        assert cache.incr("count") is None
        assert cache.get("count") == 1
        cache.clear()
