"""The page that explains a request, and who may see it."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User

from apps.ratelimits.models import Override, RateLimit

from .test_admin_sweeps import person, text

PAGE = "/admin/ratelimits/ratelimit/explain/"
ASK = {"method": "GET", "path": "/api/test", "address": "203.0.113.9"}


@pytest.fixture
def staff(engine, admin_client):
    return admin_client


@pytest.fixture
def limits(engine):
    make = RateLimit.objects.create
    api = {"path_kind": "prefix", "path": "/api/", "window_unit": 3600}
    made = {
        "api": make(name="api", quota=2, **api),
        "together": make(name="together", quota=9, mode="shadow", counted_by="everyone", **api),
        "posts": make(name="posts", quota=5, methods="POST", **api),
        "old": make(name="old", quota=5, mode="off"),
    }
    engine.refresh()
    return made


def ask(client, **changes) -> str:
    return text(client.post(PAGE, {**ASK, **changes}))


def deny(client, times=3, **options) -> None:
    client.defaults["REMOTE_ADDR"] = "203.0.113.9"
    for _ in range(times):
        client.get("/api/test", **options)


def test_an_empty_page_says_what_will_be_there(staff):
    said = text(staff.get(PAGE))
    assert "Nothing has been denied in the last 26 hours." in said
    assert 'value="127.0.0.1"' in said
    assert 'id="verdict"' not in said


def test_a_verdict_then_every_limit_and_why(staff, limits, client):
    said = ask(staff)
    assert "Allowed: one limit counts it. Nearest is api: 0 of 2 used." in said
    assert "2 limits match the request" in said
    assert "In shadow: it counts, and blocks nobody." in said
    assert "It is about POST; this is GET." in said
    assert "It is switched off." in said
    assert "and no proxy is trusted (IOTA_TRUSTED_PROXIES): that is the client." in said
    deny(client)
    said = ask(staff)
    assert "Denied by api: 2 of 2 used; the next in" in said
    assert "by address 203.0.113.9." in said
    assert "Denies</span>" in said


def test_asking_charges_nobody(staff, limits, engine, redis_client):
    before = redis_client.keys("iota:b:*")
    for _ in range(5):
        ask(staff)
    digest = engine.limiter.digests.of(("address", "203.0.113.9")).encode()
    assert [key for key in redis_client.keys("iota:b:*") if digest in key] == []
    assert len(redis_client.keys("iota:b:*")) <= len(before) + 1
    assert engine.identities._limits[limits["api"].pk].waiting == set()


def test_a_denial_is_picked_and_explained_by_its_digests(staff, limits, engine, client):
    deny(client, 4)
    engine.flush_denied()
    said = text(staff.get(PAGE))
    entry = re.search(r'\?denial=(\d+-\d+)">GET /api/test</a>', said)
    assert entry
    assert "203.0.113.9" not in said
    said = text(staff.get(PAGE, {"denial": entry[1]}))
    assert re.search(r"Denied at .* by api\. 2 alike came within a second\. Now: api: 2 of 2", said)
    assert "It is known by digests alone" in said
    assert "203.0.113.9" not in said
    digest = engine.limiter.digests.of(("address", "203.0.113.9"))
    assert f"?digest={digest}" in said


def test_what_is_no_denial_is_said(staff):
    assert "That is no denial of the list." in text(staff.get(PAGE, {"denial": "x" * 100}))
    assert "it is no longer kept" in text(staff.get(PAGE, {"denial": "1-1"}))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"path": "api"}, "A path begins with &#x27;/&#x27;"),
        ({"path": ""}, "This field is required."),
        ({"path": "/" + "x" * 2_000}, "at most 2000 characters"),
        ({"path": "http://[x/"}, "No path or URL"),
        ({"address": "10.0.0"}, "No address: write it as"),
        ({"user": "nobody"}, "No user of the site is called so."),
        ({"headers": "X-Api-Key"}, "such as X-Api-Key: k"),
        ({"headers": "X Y: k"}, 'role="alert"'),
        ({"headers": "A: b\n" * 21}, "At most 20 headers."),
        ({"method": "BREW"}, "Select a valid choice"),
    ],
)
def test_bad_input_gets_a_clear_error_and_stays(staff, changes, error):
    said = ask(staff, **changes)
    assert error in said
    assert 'id="verdict"' not in said


def test_a_url_a_user_and_overrides(staff, limits, engine):
    ada = User.objects.create_user("ada")
    Override.objects.create(user=ada, action="unlimited")
    engine.refresh()
    said = ask(staff, path="https://localhost/api/test?x=1", user="ada")
    assert "GET /api/test" in said
    assert "Allowed: an override lifts every limit that matches." in said
    assert "Lifted by an override" in said
    Override.objects.update(action="blocked")
    engine.refresh()
    said = ask(staff, user="ada")
    assert "Denied by an override of api. An override for user" in said


def test_html_in_what_is_typed_stays_text(staff, limits):
    said = ask(staff, path="/api/<script>alert(1)</script>")
    assert "<script>alert(1)" not in said
    assert "&lt;script&gt;" in said


def test_who_may_see_it(engine, client):
    person(client)
    assert client.get(PAGE).status_code == 403
    assert client.post(PAGE, ASK).status_code == 403
    client.logout()
    User.objects.all().delete()
    person(client, "view_ratelimit")
    assert client.get(PAGE).status_code == 200
    client.logout()
    assert client.get(PAGE).status_code == 302


def test_redis_away_is_said(staff, limits, engine, monkeypatch):
    from apps.ratelimits.storage.errors import Unavailable

    def away(*args, **options):
        raise Unavailable("away")

    monkeypatch.setattr(engine.limiter.redis, "ask", away)
    monkeypatch.setattr(engine.denied, "recent", away)
    said = ask(staff)
    assert "Not known: Redis does not answer" in said
    assert "who was denied last is not known" in said
