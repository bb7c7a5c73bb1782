"""The site's own pages."""

import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from apps.monitoring.models import Turn
from apps.ratelimits.models import RateLimit


def test_a_visitor_sees_where_they_stand_and_is_not_charged_for_looking(engine, client):
    RateLimit.objects.create(name="ten", quota=10, path_kind="prefix", path="/api/")
    client.get("/api/test")
    for _ in range(2):
        assert "9 of 10 left" in client.get("/").content.decode()


def test_the_page_is_useful_without_limits(engine, client):
    assert "No limit counts you there" in client.get("/").content.decode()


def test_a_limit_by_view_is_shown_too(engine, client):
    RateLimit.objects.create(name="by-view", quota=4, path_kind="view", path="api-test")
    assert "4 of 4 left" in client.get("/").content.decode()


def test_health_and_readiness(engine, client):
    assert client.get("/healthz").content == b"ok\n"
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {
        "database": "ok",
        "watch": "never",
        "redis": "ok",
        "ruleset": "ok",
    }


def test_without_redis_a_process_is_degraded_and_stays_in_service(engine, client, redis_server):
    client.get("/readyz")
    redis_server.pause()
    try:
        response = client.get("/readyz")
    finally:
        redis_server.resume()
    assert response.status_code == 200
    assert response.json()["redis"] == "degraded"


def test_the_page_without_redis_waits_once_and_says_what_it_does_not_know(
    engine, client, redis_server
):
    """The middleware has waited already: its own look would be a second timeout."""
    RateLimit.objects.create(name="all", quota=1000)
    assert "of 1000 left" in client.get("/").content.decode()
    redis_server.pause()
    try:
        began_s = time.monotonic()
        page = client.get("/").content.decode()
        took_s = time.monotonic() - began_s
    finally:
        redis_server.resume()
    assert "not known for a moment" in page
    assert "No limit counts you" not in page
    assert took_s < 1.9  # Of a timeout of 1 s, in tests.


@pytest.mark.parametrize(("policy", "status"), [("allow", 200), ("deny", 503)])
def test_without_limits_a_process_is_ready_where_it_lets_pass(engine, client, policy, status):
    engine.config = replace(engine.config, no_ruleset=policy)
    with tables_away():
        response = client.get("/readyz")
    assert response.status_code == status
    assert response.json()["ruleset"] == "not loaded"


def test_without_its_database_a_process_is_not_ready(engine, client, monkeypatch):
    client.get("/readyz")
    with monkeypatch.context() as moved:
        moved.setitem(connection.settings_dict, "NAME", "/nowhere/at-all.sqlite3")
        connection.close()
        response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["database"] == "unavailable"


def test_readiness_says_whether_the_watch_lives_and_does_not_depend_on_it(engine, client):
    row = Turn.objects.create(job="sample", ended_at=timezone.now())
    assert client.get("/readyz").json()["watch"] == "ok"
    row.ended_at -= timedelta(seconds=61)
    row.save()
    late = client.get("/readyz")
    assert (late.status_code, late.json()["watch"]) == (200, "late")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE monitoring_turn RENAME TO elsewhere")
    try:
        without = client.get("/readyz")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO monitoring_turn")
    assert (without.status_code, without.json()["watch"]) == (200, "never")


@contextmanager
def tables_away():
    """As before the first ``migrate``."""
    table = RateLimit._meta.db_table
    rename = "ALTER TABLE {} RENAME TO {}"
    with connection.cursor() as cursor:
        cursor.execute(rename.format(table, "elsewhere"))
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(rename.format("elsewhere", table))


def test_the_page_is_live_and_works_without_a_script(engine, client):
    page = client.get("/").content.decode()
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in page


def test_users_and_groups_wear_the_theme(engine, admin_client, admin_user):
    for page in ("user/", "user/add/", f"user/{admin_user.pk}/change/", "group/", "group/add/"):
        response = admin_client.get(f"/admin/auth/{page}")
        assert response.status_code == 200
        assert b"unfold" in response.content
    password = f"/admin/auth/user/{admin_user.pk}/password/"
    assert admin_client.get(password).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/test", 301), ("/", 301), ("/healthz", 200), ("/readyz", 200), ("/metrics", 403)],
)
def test_plain_http_is_redirected_but_for_what_neighbours_ask(
    engine, client, settings, path, status
):
    settings.SECURE_SSL_REDIRECT = True
    assert client.get(path).status_code == status
