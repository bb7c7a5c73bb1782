"""Memory and expiry: a server that is set badly, and figures of ones that are in trouble."""

from __future__ import annotations

import pytest

from apps.monitoring.hooks.memory import MIB, judge_expiry, judge_memory
from apps.ratelimits.storage.server_findings import Level
from tests import redis_files
from tests.servers import RedisProcess, flavours

from .looking import codes, find

GIB = 1024 * MIB


@pytest.fixture(params=flavours())
def flavour(request):
    return request.param


def started(request, server: RedisProcess) -> RedisProcess:
    request.addfinalizer(server.stop)
    return server.start()


def test_a_server_of_the_shipped_file_is_in_order(request, flavour):
    server = started(request, redis_files.with_file(flavour, redis_files.SINGLE))
    (memory,) = find("memory", server.url)
    assert (memory.level, memory.code) == (Level.INFO, "memory")
    assert "maxmemory 2.0 GiB" in memory.evidence
    (expiry,) = find("expiry", server.url)
    assert expiry.level is Level.INFO
    assert "hz 10; active-expire-effort 1; lazyfree-lazy-expire yes" in expiry.evidence


def test_more_than_the_machine_has_is_a_warning(request, flavour):
    server = started(request, RedisProcess(flavour, ["--maxmemory", "900000gb"]))
    (found,) = find("memory", server.url)
    assert (found.level, found.code) == (Level.WARNING, "memory-machine")
    assert "machine " in found.evidence


def test_a_server_that_rarely_looks_for_expired_keys_is_a_warning(request, flavour):
    server = started(request, RedisProcess(flavour, ["--hz", "1"]))
    (found,) = find("expiry", server.url)
    assert (found.level, found.code) == (Level.WARNING, "expiry")
    assert found.to_do == "`CONFIG SET hz 10`"


def test_what_may_not_be_asked_is_unknown(request, flavour):
    server = started(request, redis_files.with_users(flavour))
    site = redis_files.url("iota", f"127.0.0.1:{server.port}")
    for name in ("memory", "expiry"):
        (found,) = find(name, site)
        assert (found.level, found.code) == (Level.UNKNOWN, "not-known")


def of(**info: int) -> list[str]:
    whole = {"used_memory": GIB, "used_memory_rss": GIB, "total_system_memory": 16 * GIB, **info}
    return codes(list(judge_memory(whole, "here")))


def test_figures_of_trouble():
    assert of() == ["memory"]
    assert of(used_memory_rss=2 * GIB) == ["fragmentation"]
    assert of(used_memory_rss=GIB // 2) == ["swapped"]
    assert of(used_memory=15 * GIB, used_memory_rss=15 * GIB) == ["memory-machine"]
    # A small server is always fragmented.
    assert of(used_memory=MIB, used_memory_rss=9 * MIB) == ["memory"]
    settings = {"hz": "10", "active-expire-effort": "1"}
    (stale,) = judge_expiry({"expired_stale_perc": 24.5}, settings, "here")
    assert (stale.level, stale.code) == (Level.WARNING, "expiry")
    assert "expired keys still held: 24.5 %" in stale.evidence
    (unsaid,) = judge_expiry({}, settings, "here")
    assert "expired keys still held: not known" in unsaid.evidence
