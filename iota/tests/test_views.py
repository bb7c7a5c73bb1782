"""The site's own pages."""

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


def test_health_and_readiness(engine, client, redis_server):
    assert client.get("/healthz").content == b"ok\n"
    assert client.get("/readyz").status_code == 200
    redis_server.pause()
    try:
        response = client.get("/readyz")
    finally:
        redis_server.resume()
    assert response.status_code == 503
    assert response.json()["redis"] == "unavailable"


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
