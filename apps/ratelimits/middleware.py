"""Wiring: request in, decision applied, fields out. Sync and async, without a thread hop of ours.

Place it behind AuthenticationMiddleware and before any cache middleware.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render

from . import conf
from .caller import Callers
from .engine import Engine, get_engine
from .policy import headers
from .policy.decision import Decision, Held
from .policy.facts import RequestFacts
from .raised import watched
from .request_facts import request_facts

MAX_ACCEPT_CHARS = 1_000
"""A longer list of media types is no browser's."""

GetResponse = Callable[[HttpRequest], HttpResponseBase]
AsyncGetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


class RateLimitMiddleware:
    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse | AsyncGetResponse) -> None:
        config = conf.current()
        if config.disabled:
            raise MiddlewareNotUsed("IOTA_DISABLED is set: no limit is enforced.")
        self.get_response = get_response
        self.config = config
        self.callers = Callers(config.key_validator)
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self.__acall__(request)
        if self._exempt(request):
            return self.get_response(request)
        engine = get_engine()
        engine.tally.began()
        failed = True
        try:
            response = self._limited(request, engine)
            failed = _is_error(response)
        finally:
            engine.tally.ended(failed)
        return response

    def _limited(self, request: HttpRequest, engine: Engine) -> HttpResponseBase:
        engine.start()
        if refused := engine.without_limits():
            engine.tally.refused()
            return denied_response(request, refused)
        facts = self._facts(request, engine)
        candidates = engine.candidates(facts)
        user = self.callers.identify(request, candidates)
        decision = engine.decide(candidates, facts, user)
        at_ns, record = time.time_ns(), engine.recorder
        if not decision.allowed:
            denied = denied_response(request, decision)
            if record.on:
                record.seen(request, facts, user, candidates, at_ns, denied.status_code, decision)
            return denied
        try:
            response, decision = self._answer(request, engine, decision)
        except BaseException:
            engine.limiter.release(decision.held)
            raise
        if record.on:
            status, streams = response.status_code, response.streaming
            record.seen(request, facts, user, candidates, at_ns, status, streams=streams)
        if decision.held:
            _release_at_end(response, _Release(engine, decision.held))
        return _with_fields(response, decision)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        get_response = cast(AsyncGetResponse, self.get_response)
        if self._exempt(request):
            return await get_response(request)
        engine = get_engine()
        engine.tally.began()
        failed = True
        try:
            response = await self._alimited(request, engine)
            failed = _is_error(response)
        except asyncio.CancelledError:
            failed = False  # The client has gone.
            raise
        finally:
            engine.tally.ended(failed)
        return response

    async def _alimited(self, request: HttpRequest, engine: Engine) -> HttpResponseBase:
        if not engine.started:
            # Once per process: the first ruleset may have to come from the database.
            await asyncio.to_thread(engine.start)
        if refused := engine.without_limits():
            engine.tally.refused()
            return denied_response(request, refused)
        facts = self._facts(request, engine)
        candidates = engine.candidates(facts)
        user = await self.callers.aidentify(request, candidates)
        decision = await engine.adecide(candidates, facts, user)
        at_ns, record = time.time_ns(), engine.recorder
        if not decision.allowed:
            denied = denied_response(request, decision)
            if record.on:
                record.seen(request, facts, user, candidates, at_ns, denied.status_code, decision)
            return denied
        release = _Release(engine, decision.held)
        try:
            response, decision = await self._aanswer(request, engine, decision)
        except BaseException:
            if record.on:  # It was counted, though nobody waited for the answer.
                record.seen(request, facts, user, candidates, at_ns, 0)
            await asyncio.shield(release.anow())
            raise
        if record.on:
            status, streams = response.status_code, response.streaming
            record.seen(request, facts, user, candidates, at_ns, status, streams=streams)
        if decision.held:
            if response.streaming:
                _release_at_end(response, release)
            else:
                await asyncio.shield(release.anow())
        return _with_fields(response, decision)

    def _answer(
        self, request: HttpRequest, engine: Engine, decision: Decision
    ) -> tuple[HttpResponseBase, Decision]:
        """The view's response, and the decision once it is known what counts."""
        get_response = cast(GetResponse, self.get_response)
        if not decision.charges:
            return get_response(request), decision
        with watched() as raised:
            response = get_response(request)
        return response, engine.settle(decision, response.status_code, raised)

    async def _aanswer(
        self, request: HttpRequest, engine: Engine, decision: Decision
    ) -> tuple[HttpResponseBase, Decision]:
        get_response = cast(AsyncGetResponse, self.get_response)
        if not decision.charges:
            return await get_response(request), decision
        with watched() as raised:
            response = await get_response(request)
        settled = engine.asettle(decision, response.status_code, raised)
        return response, await asyncio.shield(settled)

    def _exempt(self, request: HttpRequest) -> bool:
        if request.path_info.startswith(self.config.exempt_paths):
            return True
        return (
            self.config.exempt_preflight
            and request.method == "OPTIONS"
            and "Origin" in request.headers
            and "Access-Control-Request-Method" in request.headers
        )

    def _facts(self, request: HttpRequest, engine: Engine) -> RequestFacts:
        index = engine.index
        return request_facts(
            request, self.config, with_route=index.needs_route, with_host=index.needs_host
        )


def denied_response(request: HttpRequest, decision: Decision) -> HttpResponse:
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
    # Django logs each of them, a 503 even as an error: under a flood the log held nothing else.
    # Failures of Redis have lines of their own (storage/failures.py).
    response._has_been_logged = True  # type: ignore[attr-defined]
    response._asked_for = True  # type: ignore[attr-defined]
    response["Cache-Control"] = "no-store"
    response["Retry-After"] = str(headers.retry_after_s(decision))
    return cast(HttpResponse, _with_fields(response, decision))


def _is_error(response: HttpResponseBase) -> bool:
    """Of the site: no answer that a limit asked for."""
    return response.status_code >= 500 and not hasattr(response, "_asked_for")


def _prefers_a_page(request: HttpRequest) -> bool:
    """What a client sends must not make a denial dear: 64 kB of media types took 0.4 s to read."""
    if len(request.META.get("HTTP_ACCEPT", "")) > MAX_ACCEPT_CHARS:
        return False
    types = ["application/problem+json", "application/json", "text/html"]
    return request.get_preferred_type(types) == "text/html"


def _with_fields(response: HttpResponseBase, decision: Decision) -> HttpResponseBase:
    for name, value in headers.fields(decision).items():
        response[name] = value
    return response


class _Release:
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


def _release_at_end(response: HttpResponseBase, release: _Release) -> None:
    """At the end of the view, or of the stream where the response is one."""
    if not isinstance(response, StreamingHttpResponse):
        release.now()
        return
    if response.is_async:
        # Not aiter(response), which looks for the content when it is first asked, and would
        # find itself.
        content = cast(AsyncIterator[bytes], response.streaming_content)
        response.streaming_content = _areleasing(content, release)
    else:
        response.streaming_content = _releasing(iter(response), release)
    # A stream that is closed before it was begun runs no `finally`.
    response._resource_closers.append(release.now)  # type: ignore[attr-defined]


def _releasing(content: Iterator[bytes], release: _Release) -> Iterator[bytes]:
    try:
        yield from content
    finally:
        release.now()


async def _areleasing(content: AsyncIterator[bytes], release: _Release) -> AsyncIterator[bytes]:
    try:
        async for part in content:
            yield part
    finally:
        await asyncio.shield(release.anow())
