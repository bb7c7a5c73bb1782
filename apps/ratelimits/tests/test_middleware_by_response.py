"""Limits that count by what came of a request, through Django's whole stack."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import AsyncClient, AsyncRequestFactory
from django.urls import path

from apps.ratelimits.middleware import RateLimitMiddleware
from apps.ratelimits.models import RateLimit

from .test_middleware import limit, statuses  # noqa: F401  (a fixture)


def answer(request, status):
    return HttpResponse("as asked", status=status)


urlpatterns = [path("api/<int:status>", answer), path("admin/", admin.site.urls)]

pytestmark = pytest.mark.urls(__name__)
LOGIN = "/admin/login/"
WRONG = {"username": "ada", "password": "wrong"}
RIGHT = {"username": "ada", "password": "right"}


@pytest.fixture
def failures(limit):  # noqa: F811
    def make(**changes) -> RateLimit:
        return limit(**{"counts": "status", "statuses": "401, 5xx", **changes})

    return make


@pytest.mark.parametrize(
    "algorithm", ["token_bucket", "fixed_window", "sliding_window", "sliding_log"]
)
def test_only_responses_with_the_status_count(failures, client, algorithm):
    failures(algorithm=algorithm)
    assert statuses(client, 9, "/api/200") == [200] * 9
    assert statuses(client, 2, "/api/401") == [401] * 2
    assert statuses(client, 1, "/api/404") == [404]
    assert statuses(client, 3, "/api/503") == [503, 429, 429]
    assert statuses(client, 1, "/api/200") == [429]


def test_the_fields_tell_what_is_left_once_it_is_known_what_counts(failures, client):
    failures()
    assert '"three";r=3' in client.get("/api/200")["RateLimit"]
    assert '"three";r=2' in client.get("/api/401")["RateLimit"]
    assert '"three";r=2' in client.get("/api/200")["RateLimit"]


@pytest.fixture
def ada(db):
    return User.objects.create_user("ada", password="right", is_staff=True)


def test_failed_logins_of_the_admin_count_and_others_do_not(limit, client, ada):  # noqa: F811
    limit(path="/admin/login/", methods="POST", counts="signal", signal="user_login_failed")
    for _ in range(2):
        assert client.post(LOGIN, WRONG).status_code == HTTPStatus.OK
        assert client.post(LOGIN, RIGHT).status_code == HTTPStatus.FOUND
    assert client.post(LOGIN, WRONG).status_code == HTTPStatus.OK
    assert client.post(LOGIN, RIGHT).status_code == HTTPStatus.TOO_MANY_REQUESTS


@pytest.mark.django_db(transaction=True)
async def test_failed_logins_count_alike_on_the_event_loop(limit, ada):  # noqa: F811
    from asgiref.sync import sync_to_async

    from apps.ratelimits.engine import get_engine

    make = sync_to_async(limit)
    await make(path="/admin/login/", methods="POST", counts="signal", signal="user_login_failed")
    client = AsyncClient()
    for _ in range(3):
        assert (await client.post(LOGIN, RIGHT)).status_code == HTTPStatus.FOUND
        assert (await client.post(LOGIN, WRONG)).status_code == HTTPStatus.OK
    assert (await client.post(LOGIN, WRONG)).status_code == HTTPStatus.TOO_MANY_REQUESTS
    await get_engine().limiter.aclose()


def test_a_blocked_client_stays_out_when_the_window_has_passed(limit, client):  # noqa: F811
    limit(path="/api/", quota=1, window_unit=1, block_amount=10, block_unit=60)
    while client.get("/api/200").status_code == HTTPStatus.OK:
        pass
    denied = client.get("/api/200")
    assert 590 <= int(denied["Retry-After"]) <= 600
    assert "r=0" in denied["RateLimit"]


@pytest.mark.django_db(transaction=True)
async def test_who_hangs_up_before_the_answer_is_counted(failures, redis_client):
    """Else closing the connection early would be the way around the limit."""
    from asgiref.sync import sync_to_async

    from apps.ratelimits.engine import get_engine

    await sync_to_async(failures)(quota=1)
    asked = asyncio.Event()

    async def view(request):
        asked.set()
        await asyncio.sleep(60)

    middleware = RateLimitMiddleware(view)
    request = asyncio.ensure_future(middleware(AsyncRequestFactory().get("/api/200")))
    await asked.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    denied = await middleware(AsyncRequestFactory().get("/api/200"))
    assert denied.status_code == HTTPStatus.TOO_MANY_REQUESTS
    await get_engine().limiter.aclose()
