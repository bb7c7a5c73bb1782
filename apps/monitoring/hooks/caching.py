"""What is cached, and whether the cache answers: read only, nothing is put into it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import redis
from django.conf import settings
from django.core.cache import caches

from apps.ratelimits.storage.server_findings import Finding, Level

from ..amounts import in_time
from ..look import Look, said_by, unknown
from ..registry import Topic, finding

PINGS = 9
LONG_S = 0.005
OF_ONE_PROCESS = ("LocMemCache", "DummyCache")
WHERE = "Django's cache"


@finding("cache", Topic.CONFIGURATION, "Caching")
def cache(look: Look) -> Iterator[Finding]:
    if settings.DEBUG:
        yield Finding(
            Level.WARNING,
            "debug",
            "this site",
            "In DEBUG templates are read anew for each page, and every query is kept in memory.",
            "DEBUG is true",
            "Start it without DEBUG.",
        )
    backend = str(settings.CACHES["default"]["BACKEND"])
    if backend.endswith(OF_ONE_PROCESS):
        yield Finding(
            Level.WARNING,
            "cache-of-one-process",
            WHERE,
            "Each process has a cache of its own, or none.",
            f"CACHES names {backend}",
            "Name django_redis.cache.RedisCache, as iota/settings.py does.",
        )
        return
    client = _client()
    if client is None:
        why = f"{backend} cannot be asked without writing to it"
        yield unknown("whether the cache answers", WHERE, why, "See its own monitoring.")
        return
    yield _answers(client)


def _client() -> Any:
    """django-redis' own connection: its methods would pass an outage over in silence."""
    owner: Any = getattr(caches["default"], "client", None)
    return owner.get_client(write=False) if hasattr(owner, "get_client") else None


def _answers(client: Any) -> Finding:
    taken_s: list[float] = []
    try:
        client.ping()
        for _ in range(PINGS):
            began_s = time.perf_counter()
            client.ping()
            taken_s.append(time.perf_counter() - began_s)
    except (redis.RedisError, OSError) as error:
        return Finding(
            Level.ERROR,
            "cache-away",
            WHERE,
            "The cache does not answer: pages are made without it, each after a wait.",
            said_by(error),
            "Start its server, or mend REDIS_URL.",
        )
    median_s = statistics.median(taken_s)
    evidence = f"a PING takes {in_time(median_s)} at the median of {PINGS}"
    if median_s > LONG_S:
        return Finding(
            Level.WARNING,
            "cache-slow",
            WHERE,
            "The cache answers slowly: what it saves may be less than it costs.",
            evidence,
            "See `manage.py doctor --only latency`.",
        )
    return Finding(Level.INFO, "cache", WHERE, "The cache answers.", evidence)
