"""Views of any kind that ask for limits by name, and a site of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import http_sf
import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View

from apps.ratelimits.engine import Engine
from apps.ratelimits.models import RateLimit
from apps.ratelimits.testing import no_rate_limits  # noqa: F401  (a fixture)
from apps.ratelimits.use import rate_limit

from .making import maker

SEEN: list[int] = []


@rate_limit("named")
def plain(request: HttpRequest, pk: int = 0) -> HttpResponse:
    return HttpResponse("ok")


@rate_limit("named")
async def aplain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


@rate_limit("named", "second")
def both(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


@rate_limit("named", cost=lambda request: int(request.GET["cost"]))
def weighed(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


@rate_limit("named", identity=lambda request: request.GET["who"])
def whose(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


@rate_limit("named", identity=lambda request: {"address": request.GET["who"]})
def whose_address(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


@rate_limit("named")
@rate_limit("named")
def twice(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


@rate_limit("named")
@rate_limit("named", identity=lambda request: "form")
def two_identities(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


@rate_limit("named")
class OnClass(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")


@rate_limit("named")
class OnAsyncClass(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")


class OnMethod(View):
    @rate_limit("named")
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")


@method_decorator(rate_limit("named"), name="dispatch")
class Decorated(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")


@method_decorator(rate_limit("named"), name="dispatch")
class AsyncDecorated(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")


class AsyncMethodDecorated(View):
    @method_decorator(rate_limit("named"))
    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")


@rate_limit("named")
def answering(request: HttpRequest, status: int) -> HttpResponse:
    if status == 404:
        raise Http404
    if status == 403:
        raise PermissionDenied
    return HttpResponse(status=status)


@rate_limit("named")
async def aanswering(request: HttpRequest, status: int) -> HttpResponse:
    if status == 404:
        raise Http404
    return HttpResponse(status=status)


@rate_limit("slots")
def streamed(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter([b"a", b"b"]))


@rate_limit("slots")
async def astreamed(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    return StreamingHttpResponse(parts())


def slots_now(request: HttpRequest) -> dict[str, Any]:
    """What a template sees while it is rendered."""
    from apps.ratelimits.engine import get_engine

    SEEN.append(sum(get_engine().limiter.client.zcard(key) for key in _slots()))
    return {}


def _slots() -> list[bytes]:
    from apps.ratelimits.engine import get_engine

    return list(get_engine().limiter.client.scan_iter("*", _type="zset"))


@rate_limit("slots")
def templated(request: HttpRequest) -> TemplateResponse:
    response = TemplateResponse(request, engines["django"].from_string("ok"))
    response.context_data = {}
    original = response.resolve_context
    patched: Any = response
    patched.resolve_context = lambda context: (slots_now(request), original(context))[1]
    return response


@rate_limit("slots")
def mistemplated(request: HttpRequest) -> TemplateResponse:
    return TemplateResponse(request, engines["django"].from_string("{% include missing %}"))


@rate_limit("slots")
def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("the view's own mistake")


def outside(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


urlpatterns = [
    path("plain", plain, name="plain"),
    path("plain/<int:pk>", plain),
    path("aplain", aplain),
    path("both", both),
    path("weighed", weighed),
    path("whose", whose),
    path("whose-address", whose_address),
    path("twice", twice),
    path("two-identities", two_identities),
    path("on-class", OnClass.as_view()),
    path("on-async-class", OnAsyncClass.as_view()),
    path("on-method", OnMethod.as_view()),
    path("decorated", Decorated.as_view()),
    path("async-decorated", AsyncDecorated.as_view()),
    path("async-method-decorated", AsyncMethodDecorated.as_view()),
    path("answering/<int:status>", answering),
    path("aanswering/<int:status>", aanswering),
    path("streamed", streamed),
    path("astreamed", astreamed),
    path("templated", templated),
    path("mistemplated", mistemplated),
    path("broken", broken),
    path("outside", outside),
]
SYNC = ("plain", "on-class", "on-method", "decorated")
ASYNC = ("aplain", "on-async-class", "async-decorated", "async-method-decorated")


@pytest.fixture
def limit(engine: Engine) -> Callable[..., RateLimit]:
    return maker(engine, name="named", quota=3, path_kind="named")


def statuses(client: Client, url: str, count: int = 5, **extra: Any) -> list[int]:
    return [client.get(url, **extra).status_code for _ in range(count)]


def fields(response: Any, name: str = "RateLimit") -> dict[str, Any]:
    parsed: Any = http_sf.parse(response[name].encode(), tltype="list")
    return dict(parsed)
