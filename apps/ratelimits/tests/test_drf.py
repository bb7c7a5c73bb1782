"""Throttles of Django REST framework, through its views and Django's whole stack."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import AsyncClient
from django.urls import path
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import api_view, throttle_classes
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from apps.ratelimits import used_in_code
from apps.ratelimits.drf import RateLimitThrottle
from apps.ratelimits.engine import get_engine
from apps.ratelimits.use import rate_limit

from .making import maker


class ByHeader(BaseAuthentication):
    """A token of the framework's own: no session."""

    def authenticate(self, request):
        name = request.META.get("HTTP_X_USER")
        return (User.objects.get(username=name), None) if name else None


class Base(APIView):
    authentication_classes = [ByHeader]
    renderer_classes = [JSONRenderer]
    permission_classes = []
    throttle_classes = [RateLimitThrottle]


class Listed(Base):
    throttle_limits = ["named", "second"]

    def get(self, request):
        return Response({"ok": True})


class Scoped(Base):
    throttle_scope = "named"

    def get(self, request):
        return Response({"ok": True})


class Unnamed(Base):
    def get(self, request):
        return Response({"ok": True})


class Weighed(Scoped):
    def throttle_cost(self, request):
        return int(request.query_params["cost"])


class Answering(Scoped):
    def get(self, request, status):
        if status == 599:
            raise RuntimeError("the view's own mistake")
        return Response(status=status)


class Bodies(RateLimitThrottle):
    limits = ("named",)

    def get_identity(self, request, view):
        return request.query_params["who"]


class Whose(Base):
    throttle_classes = [Bodies]

    def get(self, request):
        return Response({"ok": True})


class Set(ViewSet):
    authentication_classes = [ByHeader]
    renderer_classes = [JSONRenderer]
    permission_classes = []
    throttle_classes = [RateLimitThrottle]
    throttle_limits = "named"

    def list(self, request):
        return Response({"ok": True})


class ByMethod(Base):
    throttle_classes = []

    @rate_limit("named")
    def get(self, request):
        return Response({"ok": True})


@rate_limit("named")
class ByClass(Base):
    throttle_classes = []

    def get(self, request):
        return Response({"ok": True})


@api_view(["GET"])
@throttle_classes([])
@rate_limit("named")
def function(request):
    return Response({"ok": True})


for view in (function.cls,):
    view.authentication_classes = [ByHeader]
    view.renderer_classes = [JSONRenderer]
    view.permission_classes = []


@rate_limit("named")
async def for_users(request):
    return HttpResponse("ok")


async def asynchronous(request):
    """As packages do that bring async views to the framework."""
    return await for_users(Request(request, authenticators=[ByHeader()]))


urlpatterns = [
    path("listed", Listed.as_view()),
    path("scoped", Scoped.as_view()),
    path("unnamed", Unnamed.as_view()),
    path("weighed", Weighed.as_view()),
    path("answering/<int:status>", Answering.as_view()),
    path("whose", Whose.as_view()),
    path("set", Set.as_view({"get": "list"})),
    path("by-method", ByMethod.as_view()),
    path("by-class", ByClass.as_view()),
    path("function", function),
    path("asynchronous", asynchronous),
]

pytestmark = pytest.mark.urls(__name__)


@pytest.fixture
def limit(engine):
    return maker(engine, name="named", quota=3, path_kind="named")


def statuses(client, url, count=4, **extra) -> list[int]:
    return [client.get(url, **extra).status_code for _ in range(count)]


@pytest.mark.parametrize("url", ["scoped", "set", "by-method", "by-class", "function"])
def test_views_of_every_kind_are_throttled(limit, client, url):
    limit()
    assert statuses(client, f"/{url}") == [200, 200, 200, 429]


def test_the_frameworks_own_answer_says_when_to_come_again(limit, client):
    limit(quota=1)
    allowed = client.get("/scoped")
    assert allowed["RateLimit"].startswith('"named";r=0')
    denied = client.get("/scoped")
    assert "Request was throttled" in denied.json()["detail"]
    wait_s = int(denied["Retry-After"])
    assert 0 < wait_s <= 3600
    assert denied["RateLimit"].startswith('"named";r=0')
    assert denied["Cache-Control"] == "no-store"
    # As the limit itself says: never earlier.
    effective_s = int(denied["RateLimit"].partition(";t=")[2])
    assert wait_s - effective_s in (0, 1)


def test_several_limits_are_charged_or_none(limit, client):
    limit(quota=10)
    limit(name="second", quota=1)
    assert statuses(client, "/listed", 3) == [200, 429, 429]
    assert client.get("/scoped")["RateLimit"].startswith('"named";r=8')


def test_a_view_that_names_no_limit_is_not_asked_about(limit, client):
    limit(quota=1)
    assert statuses(client, "/unnamed") == [200] * 4


def test_a_limit_by_path_that_a_throttle_names_too_is_charged_once(limit, client):
    limit(quota=3, path_kind="any")
    assert statuses(client, "/scoped") == [200, 200, 200, 429]


def test_a_user_is_whom_the_framework_has_authenticated(limit, client):
    limit(quota=1, counted_by="user")
    for name in ("ada", "bob"):
        User.objects.create_user(name)
        assert statuses(client, "/scoped", 2, HTTP_X_USER=name) == [200, 429]
        for url in ("/by-method", "/function"):
            elsewhere = {"HTTP_X_USER": name, "REMOTE_ADDR": "198.51.100.1"}
            assert statuses(client, url, 1, **elsewhere) == [429]


async def test_the_same_on_an_event_loop(limit):
    await sync_to_async(limit)(quota=1, counted_by="user")
    client = AsyncClient()
    for name in ("ada", "bob"):
        await User.objects.acreate_user(name)
        got = [await client.get("/asynchronous", headers={"x-user": name}) for _ in range(2)]
        assert [response.status_code for response in got] == [200, 429]
    await get_engine().limiter.aclose()


def test_a_limit_for_groups_is_for_those_whom_the_framework_has_authenticated(limit, client):
    made = limit(quota=1, audience="staff")
    User.objects.create_user("ada", is_staff=True)
    assert statuses(client, "/scoped", 2) == [200, 200]
    assert statuses(client, "/scoped", 2, HTTP_X_USER="ada") == [200, 429]
    assert made.audience == "staff"


def test_a_request_costs_what_the_view_says(limit, client):
    limit(quota=10)
    assert client.get("/weighed?cost=6").status_code == 200
    assert client.get("/weighed?cost=5").status_code == 429
    assert client.get("/weighed?cost=4").status_code == 200


def test_a_throttle_of_ones_own_says_who_is_counted(limit, client):
    limit(quota=1)
    assert statuses(client, "/whose?who=ada", 2) == [200, 429]
    assert statuses(client, "/whose?who=bob", 1) == [200]


def test_what_does_not_count_is_given_back(limit, client):
    limit(quota=1, counts="status", statuses="404, 500")
    assert statuses(client, "/answering/200", 3) == [200] * 3
    assert statuses(client, "/answering/404", 2) == [404, 429]


def test_a_slot_is_free_again_after_the_view_and_after_its_mistake(limit, client):
    limit(quota=1, algorithm="concurrency")
    client.raise_request_exception = False
    assert statuses(client, "/answering/200", 3) == [200] * 3
    assert statuses(client, "/answering/599", 3) == [500] * 3
    assert statuses(client, "/scoped", 2) == [200] * 2


def test_a_limit_that_denies_without_redis_answers_503(limit, client, redis_server):
    limit(on_failure="deny")
    redis_server.pause()
    try:
        denied = client.get("/scoped")
    finally:
        redis_server.resume()
    assert denied.status_code == 503
    assert int(denied["Retry-After"]) >= 1


def test_throttles_are_known_to_ask_for_names():
    used = {use.where: (use.how, use.routes) for use in used_in_code.uses()["named"]}
    assert used[f"{__name__}.Scoped"] == ("RateLimitThrottle", ("scoped",))
    assert used[f"{__name__}.Set"] == ("RateLimitThrottle", ("set",))
    assert used[f"{__name__}.Whose"] == ("Bodies", ("whose",))
