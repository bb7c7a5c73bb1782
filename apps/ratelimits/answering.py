"""A decision applied to a request: what it is answered, and what is given back afterwards.

The middleware does so around the whole site, ``@rate_limit`` around one view.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import cast

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.template.response import SimpleTemplateResponse

from . import conf
from .engine import Engine
from .policy import headers
from .policy.decision import Decision, Held, joined
from .raised import watched
from .signals import request_denied

MAX_ACCEPT_CHARS = 1_000
"""A longer list of media types is no browser's."""

STATUSES: dict[type[Exception], int] = {
    Http404: 404,
    PermissionDenied: 403,
    SuspiciousOperation: 400,
    BadRequest: 400,
    MultiPartParserError: 400,
}
"""What Django answers to exceptions that a view raises; 500 to all others."""

Answer = Callable[[], HttpResponseBase]
AsyncAnswer = Callable[[], Awaitable[HttpResponseBase]]


def answered(
    request: HttpRequest,
    engine: Engine,
    decision: Decision,
    answer: Answer,
    *,
    inner: bool = False,
) -> HttpResponseBase:
    """The response of ``answer`` where the request is allowed, which holds its slots until then
    and gets back what turns out not to count. ``inner`` as in ``with_fields``."""
    if not decision.allowed:
        return denied_response(request, decision, inner=inner)
    try:
        if not decision.charges:
            response = answer()
        else:
            with watched() as raised:
                try:
                    response = answer()
                except Exception as error:
                    engine.settle(decision, status_of(error), raised)
                    raise
            decision = engine.settle(decision, response.status_code, raised)
    except BaseException:
        engine.limiter.release(decision.held)
        raise
    if decision.held:
        release_at_end(response, Release(engine, decision.held))
    return with_fields(response, decision, inner=inner)


async def aanswered(
    request: HttpRequest,
    engine: Engine,
    decision: Decision,
    answer: AsyncAnswer,
    *,
    inner: bool = False,
) -> HttpResponseBase:
    """``answered`` on the running event loop."""
    if not decision.allowed:
        return denied_response(request, decision, inner=inner)
    release = Release(engine, decision.held)
    try:
        if not decision.charges:
            response = await answer()
        else:
            with watched() as raised:
                try:
                    response = await answer()
                except Exception as error:
                    await asyncio.shield(engine.asettle(decision, status_of(error), raised))
                    raise
            settled = engine.asettle(decision, response.status_code, raised)
            decision = await asyncio.shield(settled)
    except BaseException:
        await asyncio.shield(release.anow())
        raise
    if decision.held:
        if response.streaming or _is_unrendered(response):
            release_at_end(response, release)
        else:
            await asyncio.shield(release.anow())
    return with_fields(response, decision, inner=inner)


def status_of(error: Exception) -> int:
    """What a view's exception will be answered with. Those of Django REST framework say it."""
    for kind, status in STATUSES.items():
        if isinstance(error, kind):
            return status
    said = getattr(error, "status_code", 500)
    return said if isinstance(said, int) else 500


def is_preflight(request: HttpRequest, config: conf.RateLimitConfig) -> bool:
    """Whether it is a browser's question before a request, which is not limited."""
    return (
        config.exempt_preflight
        and request.method == "OPTIONS"
        and "Origin" in request.headers
        and "Access-Control-Request-Method" in request.headers
    )


def denied_response(
    request: HttpRequest, decision: Decision, *, inner: bool = False
) -> HttpResponse:
    """429 or 503: problem details, or a page where the client prefers one."""
    problem = headers.problem(decision)
    status = cast(int, problem["status"])
    response: HttpResponse
    if _prefers_a_page(request):
        context = {
            "problem": problem,
            "wait_s": headers.retry_after_s(decision),
            "messages_of_limits": [rule.message for rule in decision.violated if rule.message],
        }
        response = render(request, "ratelimits/denied.html", context, status=status)
    else:
        response = JsonResponse(problem, status=status, content_type="application/problem+json")
    response["Retry-After"] = str(headers.retry_after_s(decision))
    request_denied.send_robust(sender=None, request=request, decision=decision)
    return cast(HttpResponse, with_fields(marked_denied(response), decision, inner=inner))


def marked_denied(response: HttpResponseBase) -> HttpResponseBase:
    """An answer that a limit asked for: no cache keeps it, and it is no error of the site."""
    # Django logs each of them, a 503 even as an error: under a flood the log held nothing else.
    # Failures of Redis have lines of their own (storage/failures.py).
    response._has_been_logged = True  # type: ignore[attr-defined]
    response._asked_for = True  # type: ignore[attr-defined]
    response["Cache-Control"] = "no-store"
    return response


def is_error(response: HttpResponseBase) -> bool:
    """Of the site: no answer that a limit asked for."""
    return response.status_code >= 500 and not hasattr(response, "_asked_for")


def _prefers_a_page(request: HttpRequest) -> bool:
    """What a client sends must not make a denial dear: 64 kB of media types took 0.4 s to read."""
    if len(request.META.get("HTTP_ACCEPT", "")) > MAX_ACCEPT_CHARS:
        return False
    types = ["application/problem+json", "application/json", "text/html"]
    return request.get_preferred_type(types) == "text/html"


def with_fields(
    response: HttpResponseBase, decision: Decision, *, inner: bool = False
) -> HttpResponseBase:
    """The RateLimit fields, together with those of limits that were asked further in; ``inner``:
    others may be asked further out."""
    further_in = getattr(response, "_rate_limits", None)
    if further_in is not None:
        decision = joined([decision, further_in])
    if inner:
        response._rate_limits = decision  # type: ignore[attr-defined]
    for name, value in headers.fields(decision).items():
        response[name] = value
    return response


class Release:
    """Frees a request's concurrency slots, once, whoever comes first."""

    def __init__(self, engine: Engine, held: tuple[Held, ...]) -> None:
        self._limiter = engine.limiter
        self._held = held

    def _take(self) -> tuple[Held, ...]:
        held, self._held = self._held, ()
        return held

    def now(self) -> None:
        self._limiter.release(self._take())

    async def anow(self) -> None:
        await self._limiter.arelease(self._take())


def release_at_end(response: HttpResponseBase, release: Release) -> None:
    """At the end of the view, or of the stream or the template that is still to come."""
    if _is_unrendered(response):
        _release_when_rendered(cast(SimpleTemplateResponse, response), release)
    elif not isinstance(response, StreamingHttpResponse):
        release.now()
        return
    elif response.is_async:
        # Not aiter(response), which looks for the content when it is first asked, and would
        # find itself.
        content = cast(AsyncIterator[bytes], response.streaming_content)
        response.streaming_content = _areleasing(content, release)
    else:
        response.streaming_content = _releasing(iter(response), release)
    # A stream that is closed before it was begun runs no `finally`.
    response._resource_closers.append(release.now)  # type: ignore[attr-defined]


def _release_when_rendered(response: SimpleTemplateResponse, release: Release) -> None:
    """Also where its template fails: Django answers 500 then, and never closes this response."""
    render = response.render

    def rendered() -> SimpleTemplateResponse:
        try:
            return render()
        finally:
            release.now()

    response.render = rendered  # type: ignore[method-assign]


def _is_unrendered(response: HttpResponseBase) -> bool:
    return isinstance(response, SimpleTemplateResponse) and not response.is_rendered


def _releasing(content: Iterator[bytes], release: Release) -> Iterator[bytes]:
    try:
        yield from content
    finally:
        release.now()


async def _areleasing(content: AsyncIterator[bytes], release: Release) -> AsyncIterator[bytes]:
    try:
        async for part in content:
            yield part
    finally:
        await asyncio.shield(release.anow())
