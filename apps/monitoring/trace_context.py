"""A request's spans belong to the trace that its ``traceparent`` names, as a proxy's do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .tracing import wanted

MAX_CHARS = 512
"""Of a field: longer ones are no trace's."""


class TraceContextMiddleware:
    """Not there where no spans are made."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        if not wanted():
            raise MiddlewareNotUsed
        try:
            from opentelemetry import context
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise MiddlewareNotUsed from error
        self._context = context
        self._extract = TraceContextTextMapPropagator().extract
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self.__acall__(request)
        token = self._enter(request)
        try:
            return self.get_response(request)
        finally:
            self._context.detach(token)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        token = self._enter(request)
        try:
            return await cast(Awaitable[HttpResponseBase], self.get_response(request))
        finally:
            self._context.detach(token)

    def _enter(self, request: HttpRequest) -> Any:
        given = {
            name: request.META.get(f"HTTP_{name.upper()}", "")[:MAX_CHARS]
            for name in ("traceparent", "tracestate")
        }
        return self._context.attach(self._extract(given))
