"""The one view, and around it each peer as its documentation puts it into a Django site.

Ours stands in the middleware, so that its view is the bare one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal

from django.http import HttpRequest, HttpResponse

from ..suites import peers
from ..targets import OURS
from .choice import NO_LIMITER, Choice

View = Callable[..., Any]


def ok(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


async def aok(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


def make_view(choice: Choice, name: str, quotas: Sequence[int]) -> View:
    """The view limited by a quota a day for each of ``quotas``, by address. Raises LookupError
    where the peer offers nothing of the kind, ImportError where it is not installed."""
    if choice.limiter in (OURS, NO_LIMITER):
        return aok if choice.is_async else ok
    return (ASYNC if choice.is_async else SYNC)[choice.limiter](choice.peers_url, name, quotas)


def _checked(peer: str, url: str, name: str, quotas: Sequence[int]) -> View:
    """For what brings nothing for Django of its own."""
    check = peers.makers(url)[peer](quotas)

    def view(request: HttpRequest) -> HttpResponse:
        return ok(request) if check(request.META["REMOTE_ADDR"]) else HttpResponse(status=429)

    return view


def _smart(url: str, name: str, quotas: Sequence[int]) -> View:
    """Its batch: one pipeline for both limits."""
    from django_smart_ratelimit.decorator import ratelimit_batch

    checks = [{"rate": f"{quota}/d", "key": "ip", "group": f"{name}{quota}"} for quota in quotas]
    limited: View = ratelimit_batch(checks)(ok)
    return limited


def _django_ratelimit(url: str, name: str, quotas: Sequence[int]) -> View:
    from django_ratelimit.decorators import ratelimit

    view: View = ok
    for quota in quotas:
        view = ratelimit(group=f"{name}{quota}", key="ip", rate=f"{quota}/d")(view)
    return view


def _drf(url: str, name: str, quotas: Sequence[int]) -> View:
    from rest_framework.throttling import SimpleRateThrottle
    from rest_framework.views import APIView

    def throttle(quota: int) -> type[SimpleRateThrottle]:
        def get_cache_key(self: Any, request: Any, view: Any) -> str:
            ident = self.get_ident(request)
            return str(self.cache_format % {"scope": self.scope, "ident": ident})

        parts = {"rate": f"{quota}/d", "scope": f"{name}{quota}", "get_cache_key": get_cache_key}
        return type("Throttle", (SimpleRateThrottle,), parts)

    class Limited(APIView):  # type: ignore[misc, unused-ignore]
        throttle_classes = [throttle(quota) for quota in quotas]

        def get(self, request: Any) -> HttpResponse:
            return HttpResponse("ok")

    view: View = Limited.as_view()
    return view


def _async_limits(
    implementation: Literal["redispy", "valkey"], url: str, name: str, quotas: Sequence[int]
) -> View:
    from limits import RateLimitItemPerDay
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import FixedWindowRateLimiter

    storage = RedisStorage(f"async+{url}", implementation=implementation)
    hit = FixedWindowRateLimiter(storage).hit
    items = [RateLimitItemPerDay(quota) for quota in quotas]

    async def allowed(address: str) -> bool:
        return all([await hit(item, address) for item in items])

    return _async_checked(allowed)


def _async_throttled(url: str, name: str, quotas: Sequence[int]) -> View:
    from throttled.asyncio import Throttled
    from throttled.asyncio.store import RedisStore

    store = RedisStore(server=url)
    throttles = [
        Throttled(
            using="fixed_window", quota=f"{quota}/d", store=store, key_prefix=f"{name}{quota}"
        )
        for quota in quotas
    ]

    async def allowed(address: str) -> bool:
        return not any([(await throttle.limit(address)).limited for throttle in throttles])

    return _async_checked(allowed)


def _async_checked(allowed: Callable[[str], Awaitable[bool]]) -> View:
    async def view(request: HttpRequest) -> HttpResponse:
        if await allowed(request.META["REMOTE_ADDR"]):
            return await aok(request)
        return HttpResponse(status=429)

    return view


def _async_smart(url: str, name: str, quotas: Sequence[int]) -> View:
    from django_smart_ratelimit import aratelimit

    def key(quota: int) -> Callable[..., str]:
        return lambda request, *args, **kwargs: f"{name}{quota}:{request.META['REMOTE_ADDR']}"

    view: View = aok
    for quota in quotas:
        view = aratelimit(key=key(quota), rate=f"{quota}/d")(view)
    return view


SYNC: dict[str, Callable[[str, str, Sequence[int]], View]] = {
    peers.LIMITS: partial(_checked, peers.LIMITS),
    peers.LIMITS_VALKEY: partial(_checked, peers.LIMITS_VALKEY),
    peers.THROTTLED: partial(_checked, peers.THROTTLED),
    peers.SMART: _smart,
    peers.DJANGO_RATELIMIT: _django_ratelimit,
    peers.DRF: _drf,
}
ASYNC: dict[str, Callable[[str, str, Sequence[int]], View]] = {
    peers.LIMITS: partial(_async_limits, "redispy"),
    peers.LIMITS_VALKEY: partial(_async_limits, "valkey"),
    peers.THROTTLED: _async_throttled,
    peers.SMART: _async_smart,
}
"""django-ratelimit and DRF offer no limiter for async views."""
