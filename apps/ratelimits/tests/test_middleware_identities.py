"""Attackers with ever new identities, through Django's whole stack."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from asgiref.sync import sync_to_async
from django.http import HttpResponse
from django.test import AsyncClient
from django.urls import path

from apps.ratelimits import conf
from apps.ratelimits.models import RateLimit

BUDGET = 50
EVERY = 20
"""Requests between two looks of the engine at who is new."""

urlpatterns = [path("api/test", lambda request: HttpResponse("ok"))]

pytestmark = pytest.mark.urls(__name__)


def anybody(header: str, value: str) -> str:
    """The mistake of a site: whoever sends a key is believed."""
    return value


@pytest.fixture
def limit(engine):
    def make(**changes) -> RateLimit:
        values = {"name": "three", "quota": 3, "algorithm": "fixed_window", "window_unit": 86_400}
        made = RateLimit(**{**values, "identities": BUDGET, **changes})
        made.full_clean()
        made.save()
        engine.refresh()
        return made

    return make


def buckets(redis_client) -> int:
    return len(list(redis_client.scan_iter("iota:b:*", count=1_000)))


def address(number: int) -> str:
    """Of a /64 of its own each."""
    return f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"


class FromAnywhere(AsyncClient):
    address = ""

    def _base_scope(self, **request):
        return super()._base_scope(**request) | {"client": [self.address, 0]}


@pytest.fixture
def status(client):
    return lambda whom: client.get("/api/test", **whom).status_code


def by_address(number: int) -> dict:
    return {"REMOTE_ADDR": address(number)}


def by_key(number: int) -> dict:
    return {"headers": {"x-api-key": f"random-{number}"}}


@pytest.mark.parametrize("algorithm", ["token_bucket", "fixed_window", "sliding_log"])
@pytest.mark.parametrize("by", [by_address, by_key])
def test_new_identities_without_end_fill_no_more_than_the_budget(
    limit, engine, redis_client, settings, status, by, algorithm
):
    dotted = f"{__name__}.anybody"
    settings.IOTA_RATELIMITS = replace(conf.current(), key_validator=dotted)
    who = {"counted_by": "header", "header": "X-Api-Key"} if by is by_key else {}
    limit(algorithm=algorithm, **who)
    assert status(by(0)) == 200
    said = []
    for number in range(1, 400):
        said.append(status(by(number)))
        if number % EVERY == 0:
            engine.count_identities()
    assert buckets(redis_client) <= BUDGET * 1.1 + EVERY + 1
    # Those of the attacker who came too late share three requests.
    assert said[-200:] == [429] * 200
    # Who was there before has all of theirs.
    assert [status(by(0)) for _ in range(3)] == [200, 200, 429]


async def test_async_requests_too(limit, engine, redis_client):
    await sync_to_async(limit)()

    client = FromAnywhere()

    async def status(number: int) -> int:
        client.address = address(number)
        return (await client.get("/api/test")).status_code

    assert await status(0) == 200
    said = []
    for number in range(1, 200):
        said.append(await status(number))
        if number % EVERY == 0:
            await sync_to_async(engine.count_identities)()
    assert buckets(redis_client) <= BUDGET * 1.1 + EVERY + 1
    assert said[-100:] == [429] * 100
    assert [await status(0) for _ in range(3)] == [200, 200, 429]
    await engine.limiter.aclose()


def test_random_keys_that_nobody_validated_are_one_address(limit, redis_client, status):
    limit(counted_by="header", header="X-Api-Key")
    for number in range(100):
        status(by_key(number))
    assert buckets(redis_client) == 1


def test_the_poller_looks_by_itself(limit, redis_client, status):
    limit(identities=5)
    deadline = time.monotonic() + 10
    number = 0
    while status(by_address(number)) == 200 and time.monotonic() < deadline:
        number += 1
        time.sleep(0.01)
    assert status(by_address(number + 1)) == 429
    assert 5 < buckets(redis_client) < number + 1


def test_other_limits_go_on_counting_each_client(limit, engine, status):
    """Over its budget is the one limit; another one without a bound knows everybody."""
    limit()
    limit(name="other", quota=2, identities=0)
    for number in range(100):
        assert status(by_address(number)) == 200 or number >= BUDGET
        if number % EVERY == 0:
            engine.count_identities()
    RateLimit.objects.filter(name="three").update(mode="off")
    engine.refresh()
    assert [status(by_address(150)) for _ in range(3)] == [200, 200, 429]


def test_without_redis_nothing_fails(limit, engine, redis_server, status):
    limit()
    assert status(by_address(1)) == 200
    redis_server.pause()
    try:
        engine.count_identities()
        assert status(by_address(2)) == 200
    finally:
        redis_server.resume()
