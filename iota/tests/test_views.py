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
