"""Wiring: request in, decision applied, fields out. Sync and async, without a thread hop of ours.

Place it behind AuthenticationMiddleware and before any cache middleware.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from . import conf
from .answering import aanswered, answered, denied_response, is_error, is_preflight
from .caller import Callers
from .engine import Engine, get_engine
from .errors import RateLimited
from .exempt_paths import ExemptPaths
from .policy.client_ip import remembering
from .policy.facts import RequestFacts
from .request_facts import request_facts

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
        self._address_of = remembering(config.trusted_proxies, config.ipv6_prefix)
        self._exempt_paths: ExemptPaths | None = None
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
            failed = is_error(response)
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
        decision, plan = engine.decide(candidates, facts, user)
        request._rate_limit_plan = plan  # type: ignore[attr-defined]
        at_ns, record = time.time_ns(), engine.recorder
        get_response = cast(GetResponse, self.get_response)
        response = answered(request, engine, decision, partial(get_response, request))
        if record.on:
            denied = None if decision.allowed else decision
            status, streams = response.status_code, response.streaming
            record.seen(request, facts, user, candidates, at_ns, status, denied, streams=streams)
        return response

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        get_response = cast(AsyncGetResponse, self.get_response)
        if self._exempt(request):
            return await get_response(request)
        engine = get_engine()
        engine.tally.began()
        failed = True
        try:
            response = await self._alimited(request, engine)
            failed = is_error(response)
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
        decision, plan = await engine.adecide(candidates, facts, user)
        request._rate_limit_plan = plan  # type: ignore[attr-defined]
        at_ns, record = time.time_ns(), engine.recorder
        get_response = cast(AsyncGetResponse, self.get_response)
        try:
            response = await aanswered(request, engine, decision, partial(get_response, request))
        except BaseException:
            if record.on:  # It was counted, though nobody waited for the answer.
                record.seen(request, facts, user, candidates, at_ns, 0)
            raise
        if record.on:
            denied = None if decision.allowed else decision
            status, streams = response.status_code, response.streaming
            record.seen(request, facts, user, candidates, at_ns, status, denied, streams=streams)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """A view may let pass what ``concurrency`` raises: it is answered as any denial."""
        if isinstance(error, RateLimited):
            return denied_response(request, error.decision, inner=True)
        return None

    def _exempt(self, request: HttpRequest) -> bool:
        paths = self._exempt_paths
        if paths is None:  # Once there are addresses.
            paths = self._exempt_paths = ExemptPaths(self.config)
        if request.path_info in paths:
            return True
        return request.method == "OPTIONS" and is_preflight(request, self.config)

    def _facts(self, request: HttpRequest, engine: Engine) -> RequestFacts:
        index = engine.index
        return request_facts(
            request,
            self.config,
            with_route=index.needs_route,
            with_host=index.needs_host,
            address_of=self._address_of,
        )
