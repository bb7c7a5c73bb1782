"""Limits that views of any kind ask for by name, through Django's whole stack."""

from __future__ import annotations

import asyncio

import pytest
from django.test import AsyncClient

from apps.ratelimits import used_in_code
from apps.ratelimits.signals import request_denied
from apps.ratelimits.testing import no_rate_limits  # noqa: F401  (a fixture)
from apps.ratelimits.use import rate_limit

from . import named_views
from .named_views import ASYNC, SYNC, OnClass, fields, limit, plain, statuses

pytestmark = pytest.mark.urls(named_views.__name__)

__all__ = ["limit"]


@pytest.mark.parametrize("url", SYNC + ASYNC)
def test_a_view_of_any_kind_is_denied_as_by_the_middleware(limit, client, url):
    limit(message="Ask us for more.")
    assert statuses(client, f"/{url}") == [200, 200, 200, 429, 429]
    denied = client.get(f"/{url}")
    assert denied["Content-Type"] == "application/problem+json"
    assert denied.json()["violated-policies"] == ["named"]
    assert denied["Cache-Control"] == "no-store"
    assert 0 < int(denied["Retry-After"]) <= 3600
    page = client.get(f"/{url}", headers={"accept": "text/html,*/*;q=0.8"})
    assert b"Ask us for more." in page.content


@pytest.mark.parametrize("url", ASYNC + SYNC)
async def test_a_view_of_any_kind_is_denied_under_asgi(limit, url):
    await asyncio.to_thread(limit)
    client = AsyncClient()
    got = [await client.get(f"/{url}") for _ in range(4)]
    assert [response.status_code for response in got] == [200, 200, 200, 429]
    assert fields(got[0])["named"]["r"] == 2
    assert int(got[3]["Retry-After"]) > 0


@pytest.mark.parametrize(("policy", "expected"), [("allow", 200), ("deny", 503), ("local", 429)])
def test_its_failure_policy_decides_while_redis_is_away(
    limit, client, engine, redis_server, policy, expected, settings
):
    limit(quota=1, on_failure=policy)
    redis_server.pause()
    try:
        assert statuses(client, "/plain", 2)[-1] == expected
    finally:
        redis_server.resume()


def test_it_works_without_the_middleware(limit, rf):
    limit(quota=1)
    allowed, denied = plain(rf.get("/")), plain(rf.get("/"))
    assert (allowed.status_code, denied.status_code) == (200, 429)
    assert allowed["RateLimit"].startswith('"named";r=0')
    assert OnClass.as_view()(rf.get("/")).status_code == 429


def test_preflights_pass(limit, client):
    limit(quota=1)
    asked = {"origin": "https://example.com", "access-control-request-method": "GET"}
    got = [client.options("/plain", headers=asked).status_code for _ in range(3)]
    assert got == [200] * 3


def test_a_switched_off_limiter_lets_all_pass(limit, client, no_rate_limits):  # noqa: F811
    limit(quota=1)
    assert statuses(client, "/plain", 3) == [200] * 3


def test_whoever_listens_hears_of_denials(limit, client):
    heard = []

    def hear(sender, request, decision, **kwargs):
        heard.append((request.path, [rule.name for rule in decision.violated]))
        raise RuntimeError("a receiver's mistake")

    request_denied.connect(hear)
    try:
        limit(quota=1)
        assert statuses(client, "/plain", 2) == [200, 429]
    finally:
        request_denied.disconnect(hear)
    assert heard == [("/plain", ["named"])]


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (lambda: rate_limit(), TypeError, "name the limits"),
        (lambda: rate_limit(plain), TypeError, "name the limits"),
        (lambda: rate_limit("No Name"), ValueError, "no name of a limit"),
        (lambda: rate_limit("named")(str), TypeError, "for views"),
        (lambda: plain("no request"), TypeError, "without a request"),
    ],
)
def test_what_is_wrong_is_said_where_it_is_wrong(wrong, error, said):
    with pytest.raises(error, match=said):
        wrong()


def test_where_each_name_is_used_is_known():
    used = {use.where: use.routes for use in used_in_code.uses()["named"]}
    here = named_views.__name__
    assert used[f"{here}.plain"] == ("plain", "plain/<int:pk>")
    assert used[f"{here}.OnClass"] == ("on-class",)
    assert used[f"{here}.OnMethod.get"] == ("on-method",)
    assert used[f"{here}.Decorated.dispatch"] == ("decorated",)
    assert used[f"{here}.AsyncMethodDecorated.get"] == ("async-method-decorated",)
    assert not any("dummy" in where for where in used)
