"""The site's own pages."""

from __future__ import annotations

from dataclasses import replace

from django.db import Error as DatabaseFailure
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.monitoring.turns import watch_state
from apps.ratelimits import conf
from apps.ratelimits.caller import Callers
from apps.ratelimits.engine import get_engine
from apps.ratelimits.policy.decision import ALLOWED
from apps.ratelimits.policy.rules import Mode
from apps.ratelimits.request_facts import request_facts
from apps.ratelimits.storage.errors import Unavailable


@never_cache
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """What this is, and the visitor's own standing against the limits on ``/api/test``."""
    config = conf.current()
    if config.disabled:
        return render(request, "iota/home.html", {"disabled": True})
    engine = get_engine()
    engine.start()
    facts = request_facts(request, config)
    asked = replace(facts, method="GET", path="/api/test", route="api-test")
    candidates = engine.candidates(asked)
    user = Callers(config.key_validator).identify(request, candidates)
    failures = engine.limiter.failures
    decision = ALLOWED
    if not failures.failing:
        # Else this request has waited for Redis once already.
        decision = engine.check(engine.plan(candidates, asked, user), charge=False)
    standings = [
        {
            "name": verdict.rule.name,
            "quota": verdict.rule.rate.quota,
            "remaining": verdict.standing.remaining,
            "percent": min(100, 100 * verdict.standing.remaining // verdict.rule.rate.quota),
            "reset_s": -(-verdict.standing.reset_us // 1_000_000),
        }
        for verdict in decision.verdicts
        if verdict.rule.mode is Mode.ENFORCE
    ]
    context = {
        "standings": standings,
        "unknown": failures.failing,
        "version": engine.version,
        "address": facts.address,
    }
    return render(request, "iota/home.html", context)


def api_test(request: HttpRequest) -> JsonResponse:
    """The endpoint that load tests and newcomers call."""
    # By itself: `never_cache` adds fields for caches of the last century, in a tenth of the time
    # that all of the request takes.
    return JsonResponse({"ok": True}, headers={"Cache-Control": "no-store"})


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """This process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Whether this process can serve: 200, or 503 naming what it lacks.

    Redis is no reason to take it out of service: without it every process serves by each limit's
    own policy, and were all of them taken out, the limiter would be why the site is down.
    """
    state = {"database": "ok"}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseFailure:
        state["database"] = "unavailable"
    else:
        # Said and no more: a site that nobody watches serves as well.
        state["watch"] = watch_state().value
    limited = True
    if conf.current().disabled:
        # Nothing of the limiter is needed: least of all on the way back.
        state["limits"] = "disabled"
    else:
        found, limited = _limiter_state()
        state |= found
    ready = limited and state["database"] == "ok"
    return JsonResponse(state, status=200 if ready else 503)


def _limiter_state() -> tuple[dict[str, str], bool]:
    """And whether it lets requests pass, as it does not where it has no ruleset and may not."""
    engine = get_engine()
    state = {"redis": "ok", "ruleset": "ok"}
    try:
        engine.store.version()
        if engine.limiter.failures.failing:
            state["redis"] = "degraded"
    except Unavailable:
        state["redis"] = "degraded"
    engine.start()
    if engine.version < 0:
        state["ruleset"] = "not loaded"
    return state, engine.version >= 0 or engine.without_limits() is None
