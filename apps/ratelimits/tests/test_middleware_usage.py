"""What the middleware counts of its requests, and what it does not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from asgiref.sync import sync_to_async
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient
from django.urls import path

from apps.ratelimits.engine import get_engine
from apps.ratelimits.models import Override
from apps.ratelimits.policy.facts import RequestFacts
from apps.ratelimits.storage.usage import LimitUsage

from .test_middleware import limit, statuses

__all__ = ["limit"]

SEEN = []


def look(request):
    SEEN.append(get_engine().tally.in_flight)
    return HttpResponse("ok")


async def alook(request):
    SEEN.append(get_engine().tally.in_flight)
    return HttpResponse("ok")


def stream(request):
    return StreamingHttpResponse(iter([b"a", b"b"]))


def broken(request):
    raise RuntimeError("the view's own mistake")


async def slow(request):
    await asyncio.sleep(60)


urlpatterns = [
    path("api/test", look),
    path("api/async", alook),
    path("api/stream", stream),
    path("api/broken", broken),
    path("api/slow", slow),
    path("api/503", lambda request: HttpResponse(status=503)),
    path("api/404", lambda request: HttpResponse(status=404)),
    path("free", lambda request: HttpResponse("ok")),
    path("healthz", lambda request: HttpResponse("ok")),
]

pytestmark = pytest.mark.urls(__name__)


def usage(engine):
    engine.flush_usage()
    return engine.usage.read()


def test_requests_allowed_and_denied(engine, limit, client):
    number = limit().pk
    statuses(client, 5)
    statuses(client, 2, "/free")
    read = usage(engine)
    assert (read.requests, read.errors) == (7, 0)
    assert (read.allowed, read.denied, sum(read.checks)) == (3, 2, 5)
    assert read.limits == {number: LimitUsage(3, 2)}
    assert read.checks_sum_us > 0
    assert engine.tally.in_flight == 0


async def test_on_an_event_loop_the_same(engine, limit):
    number = (await sync_to_async(limit)()).pk
    client = AsyncClient()
    SEEN.clear()
    answers = [(await client.get("/api/async")).status_code for _ in range(5)]
    assert answers == [200, 200, 200, 429, 429]
    assert SEEN == [1, 1, 1]
    read = await sync_to_async(usage)(engine)
    assert (read.requests, read.errors, read.allowed, read.denied) == (5, 0, 3, 2)
    assert read.limits == {number: LimitUsage(3, 2)}
    await engine.limiter.aclose()


def test_what_the_site_failed_at_is_an_error_and_what_a_limit_said_is_none(engine, limit, client):
    limit(quota=2)
    client.raise_request_exception = False
    assert statuses(client, 3, "/api/broken") == [500, 500, 429]
    assert statuses(client, 1, "/healthz") == [200]  # Exempt: no request of the limiter.
    read = usage(engine)
    assert (read.requests, read.errors) == (3, 2)


def test_a_views_own_503_is_an_error_and_its_404_is_none(engine, limit, client):
    limit(quota=9)
    assert statuses(client, 2, "/api/503") == [503, 503]
    assert statuses(client, 1, "/api/404") == [404]
    read = usage(engine)
    assert (read.requests, read.errors) == (3, 2)


def test_a_503_that_a_policy_asked_for_is_no_error(engine, limit, client, redis_server):
    number = limit(on_failure="deny").pk
    statuses(client, 1)
    redis_server.pause()
    try:
        assert statuses(client, 1) == [503]
    finally:
        redis_server.resume()
    read = usage(engine)
    assert (read.requests, read.errors, read.allowed, read.denied) == (2, 0, 1, 1)
    assert read.limits == {number: LimitUsage(1, 1, degraded=1)}


def test_a_503_without_limits_is_no_error(engine, client, monkeypatch):
    engine.start()
    monkeypatch.setattr(type(engine), "version", property(lambda self: -1))
    monkeypatch.setattr(engine, "config", replace(engine.config, no_ruleset="deny"))
    assert statuses(client, 2, "/free") == [503, 503]
    read = usage(engine)
    assert (read.requests, read.errors, read.denied, read.degraded) == (2, 0, 2, 2)
    assert sum(read.checks) == 0


def test_a_client_that_an_override_blocks_is_denied_by_that_limit(engine, limit, client):
    made = limit()
    Override.objects.create(limit=made, network="127.0.0.0/8", action="blocked")
    engine.refresh()
    assert statuses(client, 2) == [429, 429]
    read = usage(engine)
    assert (read.requests, read.denied, sum(read.checks)) == (2, 2, 2)
    assert read.limits == {made.pk: LimitUsage(denied=2)}


def test_a_shadow_limit_would_have_denied(engine, limit, client):
    number = limit(mode="shadow").pk
    statuses(client, 5)
    read = usage(engine)
    assert (read.allowed, read.denied) == (5, 0)
    assert read.limits == {number: LimitUsage(allowed=3, would_deny=2)}


def test_a_request_is_in_flight_while_it_is_inside(engine, limit, client):
    limit()
    SEEN.clear()
    statuses(client, 1)
    assert SEEN == [1]
    response = client.get("/api/stream")
    # Until the response is returned: how long the client takes to read it is not the limiter's.
    assert engine.tally.in_flight == 0
    assert b"".join(response.streaming_content) == b"ab"


async def test_a_client_that_goes_is_no_error(engine, limit):
    await sync_to_async(limit)()
    await asyncio.to_thread(engine.start)
    asked = asyncio.create_task(AsyncClient().get("/api/slow"))
    while not engine.tally.in_flight:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    while engine.tally.in_flight:
        await asyncio.sleep(0.01)
    read = await sync_to_async(usage)(engine)
    assert (read.requests, read.errors) == (1, 0)
    await engine.limiter.aclose()


def test_a_page_that_only_looks_counts_nothing(engine, limit, client):
    limit()
    facts = RequestFacts("GET", "/api/test", "203.0.113.9")
    engine.check(engine.plan(engine.candidates(facts), facts), charge=False)
    assert usage(engine).limits == {}


def test_the_poller_sends_and_the_end_sends_the_rest(engine, limit, client):
    limit(quota=1_000)
    statuses(client, 3)  # Starts the poller.
    deadline = time.monotonic() + 10
    while engine.usage.read().requests < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    statuses(client, 4)
    engine.stop()
    assert engine.usage.read().requests == 7


def test_the_heartbeat_tells_how_the_process_fares(engine, limit, client):
    limit()
    engine.start()
    engine._heartbeat._last_s = float("-inf")
    engine._heartbeat.beat()
    (status,) = engine.processes.alive()
    assert status.in_flight == 0
    assert status.config_load_us == engine.config.load_us > 0
    assert status.ruleset_compile_us > 0
