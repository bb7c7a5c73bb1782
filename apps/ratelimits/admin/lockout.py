"""Whether a limit in the form would keep the person who edits it out of the admin."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from django.contrib.auth.models import AbstractUser
from django.http import HttpRequest
from django.urls import reverse

from .. import conf
from ..engine import get_engine
from ..policy.facts import ANONYMOUS
from ..policy.matching import compile_ruleset
from ..policy.rules import Algorithm, Mode, Rule, Ruleset
from ..request_facts import request_facts, user_facts

# What a person at work in the admin uses, generously: a page is one to three requests.
ADMIN_BURST = 20
ADMIN_PER_HOUR = 60
ADMIN_AT_ONCE = 3
ADMIN_ANSWERS = (200, 302)


def warning(rule: Rule, request: HttpRequest) -> str | None:
    """What to tell whoever saves this limit, or None where it leaves the admin usable to them.

    The limit is asked as the middleware asks it, from this client and for this user, for the
    admin's first page and, signed out, for its log-in page. Overrides count.
    """
    if rule.mode is not Mode.ENFORCE:
        return None
    config = conf.current()
    index, login = reverse("admin:index"), reverse("admin:login")
    # Whenever it is active: a limit that begins tomorrow locks out tomorrow.
    always = replace(rule, active_from_us=None, active_until_us=None)
    alone = compile_ruleset(Ruleset(version=0, rules=(always,)))
    user = user_facts(cast(AbstractUser, request.user))
    seen = request_facts(request, config)
    for path, route, who in (
        (index, "admin:index", user),
        (login, "admin:login", ANONYMOUS),
    ):
        if path.startswith(config.exempt_paths):
            continue
        for method in ("GET", "POST"):
            facts = replace(seen, method=method, path=path, route=route)
            plan = get_engine().plan(alone.candidates(facts, 0), facts, who)
            if plan.blocked:
                return f"It blocks you at {path} ({method}), by an override."
            for enforced in plan.rules:
                if too_few := _too_few(enforced):
                    return (
                        f"It covers the admin ({method} {path}) and {too_few}: you could lock "
                        "yourself out. Narrow its paths, raise it, or try it in shadow first."
                    )
    return None


def _too_few(rule: Rule) -> str | None:
    """What a person at work in the admin would soon run into."""
    rate = rule.rate
    if rate.algorithm is Algorithm.CONCURRENCY:
        if rate.quota < ADMIN_AT_ONCE:
            return f"lets {rate.quota} in at once"
        return None
    at_once = rate.burst if rate.algorithm is Algorithm.TOKEN_BUCKET else rate.quota
    if not any(rule.counts_response(status, {"user_logged_in"}) for status in ADMIN_ANSWERS):
        # Work is given back: only what is under way at the same time can run into it.
        few = at_once // rate.cost
        return f"lets {few} in at once" if few < ADMIN_AT_ONCE else None
    if at_once // rate.cost < ADMIN_BURST:
        return (
            f"takes {at_once // rate.cost} requests in a row, where a few pages need {ADMIN_BURST}"
        )
    per_hour = rate.quota * 3_600_000_000 // (rate.window_us * rate.cost)
    if per_hour < ADMIN_PER_HOUR:
        return f"takes {per_hour} requests an hour, where work needs {ADMIN_PER_HOUR}"
    return None
