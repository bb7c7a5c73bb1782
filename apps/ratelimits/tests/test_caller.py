"""Whom requests count as, through Django's whole stack: only what the site knows counts apart."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path

from apps.ratelimits import conf
from apps.ratelimits.caller import MAX_KEY_CHARS
from apps.ratelimits.engine import get_engine
from apps.ratelimits.models import Override, RateLimit

COOKIE = "sessionid"
asked: list[str] = []


def whose_key(header: str, value: str) -> str | None:
    """A site's table of keys: it may use the ORM."""
    asked.append(value)
    assert User.objects.count() >= 0
    return value.removeprefix("key-of-") if value.startswith("key-of-") else None


async def awhose_key(header: str, value: str) -> str | None:
    return value.removeprefix("key-of-") if value.startswith("key-of-") else None


urlpatterns = [
    path("api/test", lambda request: HttpResponse("ok"), name="api-test"),
    path("api/items/<int:pk>/", lambda request, pk: HttpResponse("ok"), name="item"),
]

pytestmark = pytest.mark.urls(__name__)


@pytest.fixture
def limit(engine):
    def make(counted_by: str, **changes) -> RateLimit:
        made = RateLimit(
            name="one", quota=2, algorithm="fixed_window", window_unit=86_400, path_kind="prefix",
            path="/api/", counted_by=counted_by, **changes,
        )  # fmt: skip
        made.full_clean()
        made.save()
        engine.refresh()
        return made

    return make


@pytest.fixture(params=["whose_key", "awhose_key"])
def validator(request, settings):
    asked.clear()
    dotted = f"{__name__}.{request.param}"
    settings.IOTA_RATELIMITS = replace(conf.current(), key_validator=dotted)


def statuses(client, *keys: str) -> list[int]:
    return [client.get("/api/test", headers={"X-Api-Key": key}).status_code for key in keys]


def test_each_key_that_the_site_knows_counts_apart(limit, validator):
    limit("header", header="X-Api-Key")
    ada, bob = "key-of-ada", "key-of-bob"
    assert statuses(Client(), ada, ada, ada, bob, bob, bob) == [200, 200, 429] * 2


async def test_a_key_counts_apart_on_the_event_loop(limit, validator):
    await sync_to_async(limit)("header", header="X-Api-Key")
    client = AsyncClient()
    found = [
        (await client.get("/api/test", headers={"X-Api-Key": key})).status_code
        for key in ("key-of-ada", "key-of-ada", "key-of-ada", "key-of-bob", "made-up", "made-up-2")
    ]
    assert found == [200, 200, 429, 200, 200, 200]
    assert (await client.get("/api/test")).status_code == 429
    await get_engine().limiter.aclose()


def test_a_random_key_per_request_escapes_nothing(limit, validator, redis_client):
    limit("header", header="X-Api-Key")
    made_up = [secrets.token_hex(8) for _ in range(5)]
    assert statuses(Client(), *made_up) == [200, 200, 429, 429, 429]
    assert statuses(Client(), "") == [429]
    assert len(redis_client.keys("*b:*")) == 1


def test_a_huge_key_is_not_even_asked_about(limit, validator):
    limit("header", header="X-Api-Key")
    assert statuses(Client(), *["key-of-" + "x" * MAX_KEY_CHARS] * 3) == [200, 200, 429]
    assert asked == []


def test_without_a_validator_no_key_counts_apart(limit):
    limit("header", header="X-Api-Key")
    assert statuses(Client(), "key-of-a", "key-of-b", "key-of-c") == [200, 200, 429]


def test_an_override_for_a_key(limit, validator, engine):
    limit("address")
    Override.objects.create(header="X-API-Key", key_of="ada", action="unlimited")
    Override.objects.create(header="X-Api-Key", key_of="eve", action="blocked")
    engine.refresh()
    assert statuses(Client(), *["key-of-ada"] * 4, "key-of-eve") == [200] * 4 + [429]
    assert statuses(Client(), "key-of-bob", "", "key-of-bob") == [200, 200, 429]


def test_each_session_that_the_site_knows_counts_apart(limit):
    limit("session")
    for _ in range(2):
        session = SessionStore()
        session.create()
        client = Client()
        client.cookies[COOKIE] = session.session_key
        assert statuses(client, "", "", "") == [200, 200, 429]


async def test_a_session_counts_apart_on_the_event_loop(limit):
    await sync_to_async(limit)("session")
    session = SessionStore()
    await session.acreate()
    client = AsyncClient()
    client.cookies[COOKIE] = session.session_key
    found = [(await client.get("/api/test")).status_code for _ in range(3)]
    client.cookies[COOKIE] = "a" * 32
    found += [(await client.get("/api/test")).status_code for _ in range(3)]
    assert found == [200, 200, 429] * 2
    await get_engine().limiter.aclose()


@pytest.mark.parametrize("engine_name", ["db", "cached_db", "file", "signed_cookies"])
def test_a_forged_session_per_request_escapes_nothing(limit, settings, engine_name):
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine_name}"
    limit("session")
    client, found = Client(), []
    for _ in range(4):
        client.cookies[COOKIE] = secrets.token_hex(16)
        found.append(client.get("/api/test").status_code)
    assert found == [200, 200, 429, 429]


def test_asking_for_the_session_costs_its_one_query(limit, django_assert_num_queries):
    limit("session")
    session = SessionStore()
    session.create()
    client = Client()
    client.cookies[COOKIE] = session.session_key
    client.get("/api/test")
    with django_assert_num_queries(1):
        response = client.get("/api/test")
    assert "Cookie" not in response.headers.get("Vary", "")


def test_each_value_of_a_views_argument_counts_apart(limit):
    limit("view_argument", view_argument="pk")
    client = Client()
    found = [client.get(f"/api/items/{pk}/").status_code for pk in (1, 1, 1, 2, 2, 2)]
    assert found == [200, 200, 429] * 2
    # A view without the argument counts by address.
    assert statuses(client, "", "", "") == [200, 200, 429]


def test_a_combination_counts_each_pair_apart(limit):
    limit("view_argument,address", view_argument="pk")
    found = [
        Client(REMOTE_ADDR=address).get(f"/api/items/{pk}/").status_code
        for address in ("203.0.113.1", "203.0.113.2")
        for pk in (1, 1, 1, 2)
    ]
    assert found == [200, 200, 429, 200] * 2


def test_a_site_with_sessions_and_without_users(limit, settings):
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "apps.ratelimits.middleware.RateLimitMiddleware",
    ]
    limit("user,session")
    session = SessionStore()
    session.create()
    client = Client()
    client.cookies[COOKIE] = session.session_key
    assert statuses(client, "", "", "") == [200, 200, 429]
