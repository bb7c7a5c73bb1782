"""The site's addresses, and views that take their time or fail."""

import asyncio
import time

from django.http import StreamingHttpResponse
from django.urls import include, path

PART = b"x" * 65_536
EVERY_S = 0.05


def _parts(count):
    for _ in range(count):
        yield PART
        time.sleep(EVERY_S)


async def _aparts(count):
    for _ in range(count):
        yield PART
        await asyncio.sleep(EVERY_S)


def stream(request, count):
    return StreamingHttpResponse(_parts(count))


async def astream(request, count):
    return StreamingHttpResponse(_aparts(count))


def broken(request):
    raise RuntimeError("the view's own mistake")


urlpatterns = [
    path("stream/wsgi/<int:count>", stream),
    path("stream/asginl/<int:count>", astream),
    path("api/broken", broken),
    path("", include("iota.urls")),
]
