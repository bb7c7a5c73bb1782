"""Requests through Django's whole stack, counted by a real server."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus

import http_sf
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, User
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client
from django.urls import path

from apps.ratelimits.engine import get_engine
from apps.ratelimits.middleware import RateLimitMiddleware
from apps.ratelimits.models import Override

from .making import maker


def slow_stream(request):
    return StreamingHttpResponse(iter([b"a", b"b"]))


def broken(request):
    raise RuntimeError("the view's own mistake")


class Cors:
    """An outer middleware that adds a field to each response, as those for CORS do."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        response["Access-Control-Allow-Origin"] = "https://example.com"
        return response


urlpatterns = [
    path("api/test", lambda request: HttpResponse("ok"), name="api-test"),
    path("api/stream", slow_stream, name="stream"),
    path("api/broken", broken, name="broken"),
    path("healthz", lambda request: HttpResponse("ok")),
]

pytestmark = pytest.mark.urls(__name__)


@pytest.fixture
def limit(engine):
    return maker(engine, name="three", quota=3, path_kind="prefix", path="/api/")


def statuses(client, count=5, url="/api/test", **extra) -> list[int]:
    return [client.get(url, **extra).status_code for _ in range(count)]


def test_the_request_over_the_limit_is_denied(limit, client):
    limit()
    assert statuses(client) == [200, 200, 200, 429, 429]


def test_the_fields_parse_as_the_draft_says(limit, client):
    limit()
    allowed = client.get("/api/test")
    ((policy, policy_parameters),) = http_sf.parse(
        allowed["RateLimit-Policy"].encode(), tltype="list"
    )
    ((name, parameters),) = http_sf.parse(allowed["RateLimit"].encode(), tltype="list")
    assert (policy, name) == ("three", "three")
    assert policy_parameters == {"q": 3, "w": 3600}
    assert parameters["r"] == 2
    assert 0 < parameters["t"] <= 3600
    assert "Retry-After" not in allowed
    statuses(client, 2)
    denied = client.get("/api/test")
    assert 0 < int(denied["Retry-After"]) <= 3600
    assert int(denied["Retry-After"]) >= parameters["t"] - 2
    assert denied["Cache-Control"] == "no-store"


def test_a_program_gets_problem_details_and_a_person_a_page(limit, client):
    limit(quota=1, message="Ask us for more.")
    client.get("/api/test")
    program = client.get("/api/test")
    assert program["Content-Type"] == "application/problem+json"
    body = json.loads(program.content)
    assert body["type"].endswith("#quota-exceeded")
    assert body["violated-policies"] == ["three"]
    assert body["status"] == HTTPStatus.TOO_MANY_REQUESTS
    person = client.get("/api/test", headers={"accept": "text/html,*/*;q=0.8"})
    assert person["Content-Type"].startswith("text/html")
    assert b"Ask us for more." in person.content


def test_a_shadow_limit_lets_pass_and_is_not_shown(limit, client):
    limit(mode="shadow")
    responses = [client.get("/api/test") for _ in range(5)]
    assert {response.status_code for response in responses} == {200}
    assert "RateLimit" not in responses[-1]


@pytest.mark.parametrize(
    "url", ["/api/%74est", "/api/test?x=1", "/api/test?" + "x" * 5000, "/api/te%73t"]
)
def test_no_spelling_of_the_path_escapes(limit, client, url):
    limit()
    statuses(client, 3)
    assert client.get(url).status_code == 429


@pytest.mark.parametrize(
    "extra",
    [
        {"headers": {"x-forwarded-for": "203.0.113.9"}},
        {"headers": {"x-api-key": "random"}},
        {"headers": {"x-anything": "x" * 1_000_000}},
        {"headers": {"cookie": "sessionid=forged"}},
    ],
)
def test_nothing_a_client_invents_escapes(limit, client, redis_client, extra):
    limit(counted_by="user")
    statuses(client, 3)
    assert client.get("/api/test", **extra).status_code == 429
    assert max(len(key) for key in redis_client.scan_iter()) < 64


def test_each_address_counts_alone_and_an_ipv6_network_as_one(limit, client):
    limit(quota=1)
    assert statuses(client, 2, REMOTE_ADDR="198.51.100.1") == [200, 429]
    assert statuses(client, 1, REMOTE_ADDR="198.51.100.2") == [200]
    assert statuses(client, 1, REMOTE_ADDR="2001:db8::1") == [200]
    assert statuses(client, 1, REMOTE_ADDR="2001:db8::2") == [429]


def test_users_count_alone_wherever_they_are(limit, client, django_user_model):
    limit(quota=1, counted_by="user")
    for name in ("ada", "a:b"):
        client.force_login(django_user_model.objects.create_user(name))
        assert statuses(client, 2) == [200, 429]
        assert statuses(client, 1, REMOTE_ADDR="198.51.100.7") == [429]


@pytest.mark.parametrize(
    ("audience", "anonymous", "user", "staff"),
    [
        ("everyone", 429, 429, 429),
        ("anonymous", 429, 200, 200),
        ("signed_in", 200, 429, 429),
        ("staff", 200, 200, 429),
    ],
)
def test_a_limit_is_about_its_audience(limit, audience, anonymous, user, staff):
    limit(quota=1, audience=audience, counted_by="user")
    seen = []
    for expected, visitor in (
        (anonymous, None),
        (user, User.objects.create_user("user")),
        (staff, User.objects.create_user("staff", is_staff=True)),
    ):
        client = Client()
        if visitor:
            client.force_login(visitor)
        seen.append((expected, statuses(client, 2)[-1]))
    assert [expected for expected, _ in seen] == [got for _, got in seen]


def test_a_limit_by_group_asks_for_groups_once_a_minute(
    limit, client, django_user_model, django_assert_num_queries
):
    group = Group.objects.create(name="partners")
    made = limit(quota=5, counted_by="user")
    made.groups.add(group)
    made.save()
    user = django_user_model.objects.create_user("ada")
    user.groups.add(group)
    get_engine().refresh()
    client.force_login(user)
    assert client.get("/api/test")["RateLimit"].startswith('"three";r=4')
    with django_assert_num_queries(2):  # the session and the user
        assert client.get("/api/test")["RateLimit"].startswith('"three";r=3')


def test_a_limit_by_address_costs_no_query(limit, client, django_assert_num_queries):
    limit()
    client.cookies["sessionid"] = "forged"
    with django_assert_num_queries(0):
        assert client.get("/api/test").status_code == 200


def test_asking_who_the_user_is_adds_no_vary(limit, client, django_user_model):
    limit(counted_by="user")
    client.force_login(django_user_model.objects.create_user("ada"))
    assert "Vary" not in client.get("/api/test")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"action": "unlimited"}, [200] * 5),
        ({"action": "blocked"}, [429] * 5),
        ({"action": "quota", "quota": 1}, [200, 429, 429, 429, 429]),
    ],
)
def test_an_override_of_a_network(limit, client, engine, changes, expected):
    override = Override(limit=limit(), network="127.0.0.0/8", **changes)
    override.full_clean()
    override.save()
    engine.refresh()
    assert statuses(client) == expected
    assert statuses(client, REMOTE_ADDR="198.51.100.1") == [200, 200, 200, 429, 429]


def test_a_block_on_a_shadow_limit_lifts_no_other(limit, client, engine):
    shadow = limit(name="shadow", mode="shadow")
    limit(quota=1)
    Override.objects.create(limit=shadow, network="127.0.0.0/8", action="blocked")
    engine.refresh()
    assert statuses(client, 3) == [200, 429, 429]


def test_limits_by_method_view_and_host(limit, client):
    limit(quota=1, methods="POST")
    limit(name="view", quota=1, path_kind="view", path="stream")
    limit(name="host", quota=1, host="api.localhost")
    assert statuses(client, 3) == [200] * 3
    assert [client.post("/api/test").status_code for _ in range(2)] == [200, 429]
    assert statuses(client, 2, "/api/stream") == [200, 429]


def test_health_checks_and_preflights_are_exempt(limit, client):
    limit(quota=1, path_kind="any", path="")
    assert statuses(client, 3, "/healthz") == [200] * 3
    preflight = {"origin": "https://example.com", "access-control-request-method": "POST"}
    assert {client.options("/api/test", headers=preflight).status_code for _ in range(3)} == {200}
    assert [client.options("/api/test").status_code for _ in range(2)] == [200, 429]


def test_a_slot_is_free_again_after_view_stream_and_error(limit, client):
    limit(quota=1, algorithm="concurrency", window_unit=60)
    assert statuses(client, 3) == [200] * 3
    for _ in range(2):
        response = client.get("/api/stream")
        assert client.get("/api/test").status_code == 429
        assert b"".join(response) == b"ab"
        response.close()
    client.raise_request_exception = False
    assert statuses(client, 2, "/api/broken") == [500, 500]
    assert client.get("/api/test").status_code == 200


def test_without_redis_no_request_fails(limit, client, redis_server, engine, caplog):
    limit(on_failure="deny", name="deny", path_kind="exact", path="/api/stream")
    limit(quota=2)
    redis_server.pause()
    try:
        assert statuses(client, 3) == [200, 200, 429]
        refused = client.get("/api/stream")
    finally:
        redis_server.resume()
    assert refused.status_code == 503
    assert "django.request" not in [record.name for record in caplog.records]
    assert json.loads(refused.content)["type"].endswith("#temporary-reduced-capacity")
    assert int(refused["Retry-After"]) >= 1


async def test_async_requests_are_counted_alike(limit, django_user_model):
    await sync_to_async(limit)(counted_by="user")
    client = AsyncClient()
    user = await sync_to_async(django_user_model.objects.create_user)("ada")
    await client.aforce_login(user)
    responses = await asyncio.gather(*(client.get("/api/test") for _ in range(5)))
    assert sorted(response.status_code for response in responses) == [200, 200, 200, 429, 429]
    assert (await AsyncClient().get("/api/test")).status_code == 200
    await get_engine().limiter.aclose()


async def test_a_slot_is_free_again_after_an_async_stream(limit, redis_client):
    async def parts():
        yield b"a"
        yield b"b"

    async def view(request):
        return StreamingHttpResponse(parts())

    await sync_to_async(limit)(quota=1, algorithm="concurrency", window_unit=3600)
    response = await RateLimitMiddleware(view)(AsyncRequestFactory().get("/api/x"))
    (key,) = redis_client.scan_iter("*c:*")
    assert redis_client.zcard(key) == 1
    assert [part async for part in response] == [b"a", b"b"]
    assert redis_client.zcard(key) == 0
    await get_engine().limiter.aclose()


def test_a_denied_request_keeps_the_fields_of_an_outer_middleware(limit, settings):
    settings.MIDDLEWARE = [f"{__name__}.Cors", *settings.MIDDLEWARE]
    limit(quota=1)
    client = Client()
    client.get("/api/test")
    denied = client.get("/api/test", headers={"origin": "https://example.com"})
    assert denied.status_code == 429
    assert denied["Access-Control-Allow-Origin"] == "https://example.com"
    assert denied["RateLimit"]


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_cancelled_request_gives_its_slot_back(limit, redis_client, streaming):
    entered = asyncio.Event()

    async def never():
        entered.set()
        await asyncio.sleep(60)
        yield b""

    async def view(request):
        if streaming:
            return StreamingHttpResponse(never())
        async for _ in never():
            pass

    async def ask():
        response = await RateLimitMiddleware(view)(AsyncRequestFactory().get("/api/x"))
        async for _ in response:
            pass

    await sync_to_async(limit)(quota=1, algorithm="concurrency", window_unit=3600)
    task = asyncio.create_task(ask())
    await asyncio.wait_for(entered.wait(), 10)
    (key,) = redis_client.scan_iter("*c:*")
    assert redis_client.zcard(key) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert redis_client.zcard(key) == 0
    await get_engine().limiter.aclose()


def test_a_disabled_limiter_is_not_in_the_stack(limit, client, settings):
    from dataclasses import replace

    limit(quota=1)
    settings.IOTA_RATELIMITS = replace(settings.IOTA_RATELIMITS, disabled=True)
    assert statuses(client) == [200] * 5


def test_a_wrong_place_in_the_middleware_is_reported(settings):
    from apps.ratelimits.checks import MIDDLEWARE, check_middleware

    assert check_middleware(None) == []
    settings.MIDDLEWARE = [MIDDLEWARE, *[m for m in settings.MIDDLEWARE if m != MIDDLEWARE]]
    assert [message.id for message in check_middleware(None)] == ["ratelimits.E001"]
    settings.MIDDLEWARE = ["django.middleware.cache.UpdateCacheMiddleware", MIDDLEWARE]
    assert [message.id for message in check_middleware(None)] == ["ratelimits.E002"]
    settings.MIDDLEWARE = []
    assert [message.id for message in check_middleware(None)] == ["ratelimits.W001"]
