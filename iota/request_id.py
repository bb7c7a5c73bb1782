"""One name for all that a request causes: in its log lines, and in its response.

A proxy's own is kept where it is well formed; else one is made. It is set before any other
middleware runs, and ends with the request: threads that outlive it have none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
FIELD = "X-Request-Id"
MADE_BYTES = 8

request_id: ContextVar[str] = ContextVar("request_id", default="")


def id_of(request: HttpRequest) -> str:
    """What a client sends is believed as a name only: it may be another request's, too."""
    given = request.META.get("HTTP_X_REQUEST_ID", "")
    return given if given and WELL_FORMED.fullmatch(given) else os.urandom(MADE_BYTES).hex()


class RequestIdMiddleware:
    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self.__acall__(request)
        own = id_of(request)
        token = request_id.set(own)
        try:
            response: HttpResponseBase = self.get_response(request)
        finally:
            request_id.reset(token)
        response[FIELD] = own
        return response

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        own = id_of(request)
        token = request_id.set(own)
        try:
            answer = cast(Awaitable[HttpResponseBase], self.get_response(request))
            response = await answer
        finally:
            request_id.reset(token)
        response[FIELD] = own
        return response
