"""The endpoint for services that are not Django, through the site's whole stack."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient, Client

from apps.ratelimits.models import RateLimit

from .making import maker

TOKEN = "check-token-0123456789-0123456789-abcdef"


@pytest.fixture
def limit(engine):
    return maker(engine, name="paid", quota=2, path_kind="prefix", path="/paid/")


@pytest.fixture
def configured(engine, settings):
    def change(**changes):
        settings.IOTA_RATELIMITS = engine.config = replace(settings.IOTA_RATELIMITS, **changes)

    return change


def fields(proxy, *, path="/paid/x", method="GET", host="shop.example.com", of="203.0.113.1"):
    before = "X-Original" if proxy == "nginx" else "X-Forwarded"
    named = {f"{before}-Method": method, f"{before}-Uri": path, f"{before}-Host": host}
    return {**named, "X-Forwarded-For": of}


def asked(client, proxy="traefik", count=1, query="", **changes):
    headers = fields(proxy, **changes)
    return [client.get(f"/api/check/{proxy}{query}", headers=headers) for _ in range(count)]


def statuses(*arguments, **options):
    return [response.status_code for response in asked(*arguments, **options)]


def test_traefik_gets_the_answer_for_its_client(limit, client):
    limit(message="Ask us for more.")
    assert statuses(client, count=3) == [200, 200, 429]
    (denied,) = asked(client)
    assert denied["Content-Type"] == "application/problem+json"
    assert denied.json()["detail"] == "Ask us for more."
    assert 0 < int(denied["Retry-After"]) <= 3600
    assert denied["Cache-Control"] == "no-store"
    assert denied["RateLimit"].startswith('"paid";r=0')


def test_nginx_gets_403_and_is_told_what_to_answer(limit, client):
    limit()
    first, _, denied = asked(client, "nginx", 3)
    assert (first.status_code, first.content) == (200, b"")
    assert first["RateLimit"].startswith('"paid";r=1')
    assert "X-IOTA-Status" not in first
    assert (denied.status_code, denied["X-IOTA-Status"]) == (403, "429")
    assert 0 < int(denied["Retry-After"]) <= 3600
    assert denied["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_envoy_asks_with_the_request_itself(limit, method):
    limit(methods=method.upper(), host="shop.example.com")
    client = Client(enforce_csrf_checks=True, headers={"x-forwarded-for": "203.0.113.1"})
    ask = getattr(client, method)
    got = [
        ask("/api/check/envoy//paid/./x?limit=none-such", HTTP_HOST="localhost") for _ in range(3)
    ]
    assert [response.status_code for response in got] == [200] * 3
    RateLimit.objects.update(host="localhost")
    from apps.ratelimits.engine import get_engine

    get_engine().refresh()
    got = [
        ask("/api/check/envoy//paid/./x?limit=none-such", HTTP_HOST="localhost") for _ in range(3)
    ]
    assert [response.status_code for response in got] == [200, 200, 429]


def test_the_original_request_is_what_limits_are_about(limit, client):
    limit(quota=1, methods="POST", host="shop.example.com")
    assert statuses(client, count=2) == [200, 200]
    assert statuses(client, count=2, method="POST", path="/free") == [200, 200]
    assert statuses(client, count=2, method="POST", host="other.example.com") == [200, 200]
    assert statuses(client, count=2, method="post", host="Shop.Example.com:8443") == [200, 429]
    assert statuses(client, method="POST", of="203.0.113.2") == [200]


def test_a_client_is_whom_the_proxy_forwards_for(limit, client):
    """The last that is no proxy, whatever a client has written before it."""
    limit(quota=1)
    assert statuses(client, of="198.51.100.7, 203.0.113.1") == [200]
    assert statuses(client, of="198.51.100.8, 203.0.113.1") == [429]
    assert statuses(client, of="198.51.100.8, 203.0.113.1, 127.0.0.1") == [429]
    assert statuses(client, of="2001:db8::1", count=1) == [200]
    assert statuses(client, of="2001:db8::2", count=1) == [429]


@pytest.mark.parametrize(
    ("proxy", "forged"),
    [
        ("traefik", {"X-Original-Uri": "/free", "X-Original-Method": "PUT"}),
        ("nginx", {"X-Forwarded-Uri": "/free", "X-Forwarded-Method": "PUT"}),
    ],
)
def test_a_field_that_the_proxy_does_not_set_is_a_client_s_and_not_read(
    limit, client, proxy, forged
):
    limit(quota=1)
    headers = {**fields(proxy), **forged}
    client.get(f"/api/check/{proxy}", headers=headers)
    assert client.get(f"/api/check/{proxy}", headers=headers).status_code in (403, 429)


def test_a_proxy_names_limits_beside_those_of_the_path(limit, client):
    limit(quota=10)
    limit(name="exports", quota=1, path_kind="named", path="")
    assert statuses(client, query="?limit=exports", count=2) == [200, 429]
    (allowed,) = asked(client)
    assert allowed["RateLimit"].startswith('"paid";r=8')
    # One that the path matches already is charged once.
    (allowed,) = asked(client, query="?limit=paid")
    assert allowed["RateLimit"].startswith('"paid";r=7')


def test_what_cannot_be_told_of_another_s_response_says_nothing(limit, client):
    limit(quota=1, counts="status", statuses="404")
    limit(name="slots", quota=1, algorithm="concurrency", path_kind="any")
    responses = asked(client, count=3)
    assert [response.status_code for response in responses] == [200] * 3
    assert "RateLimit" not in responses[-1]


def test_users_are_those_of_the_session_that_the_proxy_passes_on(limit, client):
    limit(quota=1, counted_by="user", audience="signed_in")
    assert statuses(client, count=2) == [200, 200]
    client.force_login(User.objects.create_user("ada"))
    assert statuses(client) == [200]
    assert statuses(client, of="203.0.113.9") == [429]


def test_a_service_asks_by_name(limit, client):
    limit(name="exports", quota=10, path_kind="named", path="")

    def ask(query):
        return client.get(f"/api/check?{query}")

    assert ask("limit=exports&identity=ada&cost=9")["RateLimit"].startswith('"exports";r=1')
    denied = ask("limit=exports&identity=ada&cost=2")
    assert (denied.status_code, denied.json()["violated-policies"]) == (429, ["exports"])
    assert ask("limit=exports&identity=bob&cost=10").status_code == 200
    assert ask("limit=exports").status_code == 200


@pytest.mark.parametrize(
    ("url", "headers", "said"),
    [
        ("/api/check", {}, "no limit is named"),
        ("/api/check?limit=exports&cost=x", {}, "no whole number"),
        ("/api/check?limit=exports&cost=²", {}, "no whole number"),
        ("/api/check?limit=exports&identity=" + "x" * 501, {}, "send a digest"),
        ("/api/check?limit=No%20Name", {}, "no name of a limit"),
        ("/api/check?" + "&".join(f"limit=l{n}" for n in range(11)), {}, "10 at most"),
        ("/api/check/traefik", {"x-forwarded-for": "203.0.113.1"}, "X-Forwarded-Method"),
        ("/api/check/nginx", {"x-forwarded-for": "203.0.113.1"}, "X-Original-Method"),
        (
            "/api/check/nginx",
            {"x-original-method": "GET", "x-original-uri": "/paid/x"},
            "does not say who its client is",
        ),
        ("/api/check/envoy/x", {}, "does not say who its client is"),
    ],
)
def test_a_question_that_lacks_something_is_told_what(limit, client, url, headers, said):
    limit()
    response = client.get(url, headers=headers)
    assert response.status_code == 400
    assert said in response.content.decode()


def test_a_name_that_nobody_has_made_follows_the_site_s_policy(limit, client, configured):
    limit()
    for policy, expected in (("allow", 200), ("deny", 503), ("raise", 400)):
        configured(unknown_limit=policy)
        assert client.get("/api/check?limit=none-such").status_code == expected
        assert statuses(client, query="?limit=none-such", of="203.0.113.7") == [expected]


@pytest.mark.parametrize(
    ("changes", "extra", "expected"),
    [
        ({}, {}, 200),
        ({}, {"REMOTE_ADDR": "::1"}, 200),
        ({}, {"REMOTE_ADDR": "203.0.113.50"}, 403),
        ({}, {"REMOTE_ADDR": ""}, 403),
        ({"check_networks": ()}, {}, 403),
        ({"check_networks": (ip_network("203.0.113.0/24"),)}, {"REMOTE_ADDR": "203.0.113.50"}, 200),
        # It stands in front of this site and passes on what anybody asks.
        ({"trusted_proxies": (ip_network("127.0.0.0/8"),)}, {}, 403),
        (
            {"trusted_proxies": (ip_network("127.0.0.0/8"),), "check_token": TOKEN},
            {"HTTP_AUTHORIZATION": f"Bearer {TOKEN}"},
            200,
        ),
        (
            {"check_token": TOKEN},
            {"REMOTE_ADDR": "203.0.113.50", "HTTP_AUTHORIZATION": f"bearer {TOKEN}"},
            200,
        ),
        (
            {"check_token": TOKEN},
            {"REMOTE_ADDR": "203.0.113.50", "HTTP_AUTHORIZATION": f"Bearer {TOKEN}x"},
            403,
        ),
        ({}, {"REMOTE_ADDR": "203.0.113.50", "HTTP_AUTHORIZATION": "Bearer "}, 403),
        (
            {"check_token": TOKEN},
            {"REMOTE_ADDR": "203.0.113.50", "HTTP_AUTHORIZATION": "Bearer \xff\u20ac"},
            403,
        ),
    ],
)
def test_only_whom_the_site_trusts_may_ask(limit, client, configured, changes, extra, expected):
    limit()
    configured(**changes)
    response = client.get("/api/check/traefik", headers=fields("traefik"), **extra)
    assert response.status_code == expected
    if expected != 200:
        assert b"IOTA_CHECK_NETWORKS" in response.content
        refused = client.get("/api/check/nginx", headers=fields("nginx"), **extra)
        assert (refused.status_code, "X-IOTA-Status" in refused) == (400, False)


def test_the_question_itself_is_not_counted_by_path(limit, client, engine):
    limit(name="everything", quota=3, path_kind="any", path="", host="testserver")
    assert statuses(client, count=5) == [200] * 5
    assert client.get("/api/check?limit=everything").status_code == 200
    engine.flush_usage()
    assert engine.usage.read().requests == 0
    # What only begins like it is.
    assert [client.get("/api/checkout").status_code for _ in range(4)] == [404, 404, 404, 429]


def test_what_it_decides_is_counted_as_usage(limit, client, engine):
    made = limit()
    asked(client, count=3)
    engine.flush_usage()
    counted = engine.usage.read().limits[made.pk]
    assert (counted.allowed, counted.denied) == (2, 1)


def test_failure_policies_hold(limit, client, redis_server):
    limit(on_failure="deny")
    redis_server.pause()
    try:
        assert statuses(client) == [503]
        (denied,) = asked(client, "nginx")
    finally:
        redis_server.resume()
    assert (denied.status_code, denied["X-IOTA-Status"]) == (403, "503")


def test_a_switched_off_limiter_lets_all_pass(limit, client, configured):
    limit(quota=1)
    configured(disabled=True)
    assert statuses(client, count=3) == [200] * 3


async def test_it_answers_under_asgi(limit):
    from asgiref.sync import sync_to_async

    await sync_to_async(limit)()
    client = AsyncClient()
    got = [await client.get("/api/check/traefik", headers=fields("traefik")) for _ in range(3)]
    assert [response.status_code for response in got] == [200, 200, 429]


def test_it_works_where_https_is_enforced(limit, client, settings):
    settings.SECURE_SSL_REDIRECT = True
    limit()
    assert statuses(client) == [200]
    assert client.get("/api/checkout").status_code == 301


@pytest.mark.parametrize("path", ["/paid/x/../../free", "/paid/%2e%2e/free", "/free/../paid/x"])
def test_a_limit_holds_on_the_path_as_it_came_and_on_what_it_leads_to(limit, client, path):
    limit(quota=1)
    assert statuses(client, path=path, count=2) == [200, 429]


def test_who_may_ask_is_no_proxy_for_others(limit, client, configured):
    limit(quota=1)
    configured(check_networks=(ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8")))
    assert statuses(client, of="198.51.100.7, 10.1.2.3") == [200]
    assert statuses(client, of="198.51.100.8, 10.1.2.3") == [429]


@pytest.mark.parametrize(("proxy", "status"), [("nginx", 414), ("traefik", 414)])
def test_an_address_that_is_too_long_is_refused(limit, client, proxy, status):
    limit()
    (response,) = asked(client, proxy, path="/" + "./" * 5_000 + "paid/x")
    assert response.status_code == status
    assert "over 8,192 characters" in response.content.decode()
