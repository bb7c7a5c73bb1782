"""What of a request is kept: enough to try limits on it, and nobody's name."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient
from django.urls import path, re_path

from apps.ratelimits.engine import forget_engine, get_engine
from apps.ratelimits.policy.identity import digest
from apps.ratelimits.policy.traffic import TOOK_UNKNOWN, together
from apps.ratelimits.recording import MOST_WAITING
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.traffic import MOST_IN_BATCH

from .test_middleware import limit

__all__ = ["limit"]


def view(request, **arguments):
    if "look" in request.GET:
        str(request.user)
    return HttpResponse("ok")


async def aview(request):
    await request.auser()
    return HttpResponse("ok")


def deleting(request):
    request.user.delete()
    return HttpResponse("gone")


def forbidden(request):
    return HttpResponse(status=403)


urlpatterns = [
    path("api/test", view, name="api-test"),
    path("api/async", aview, name="api-async"),
    path("api/deleting", deleting),
    path("api/forbidden", forbidden, name="forbidden"),
    path("api/stream", lambda request: StreamingHttpResponse(iter([b"a"])), name="stream"),
    path("users/<slug:name>/<int:pk>", view, name="user"),
    re_path(r"^old/(?P<name>\w+)/$", view, name="old"),
    path("healthz", view),
]
pytestmark = pytest.mark.urls(__name__)
ADDRESS = {"REMOTE_ADDR": "203.0.113.77"}


@pytest.fixture
def recorder(engine):
    engine.refresh()
    # The poller would take what a test is about to look at.
    engine.start()
    engine._stop.set()
    engine._poller.join()
    engine.recorder.take()
    return engine.recorder


def taken(recorder):
    """Each request's What, Who, Outcome and duration."""
    batch = recorder.take()
    columns = zip(batch.what, batch.who, batch.outcome, batch.took_us, strict=True)
    return [
        (batch.whats[what], batch.whos[who], batch.outcomes[outcome], took)
        for what, who, outcome, took in columns
    ]


def test_a_request_of_an_anonymous_visitor(recorder, client, settings):
    client.get("/users/ada/7", **ADDRESS)
    ((what, who, outcome, took_us),) = taken(recorder)
    key = settings.IOTA_RATELIMITS.identity_key
    assert what.method == "GET"
    assert what.path.startswith("/users/{")
    assert "ada" not in str(what)
    assert what.route == "user"
    assert dict(what.arguments)["name"] == digest(key, "argument", "ada")
    assert what.host == "testserver"
    # As the bucket has it, so that the page's digests can be found elsewhere.
    assert who.address == digest(key, "address", ADDRESS["REMOTE_ADDR"])
    assert who.network == "203.0.113.0/24"
    assert (who.user, who.groups, who.session, who.headers) == ("", (), "", ("*",))
    assert outcome == (200, ())
    assert 0 < took_us < 60_000_000


def test_a_view_that_nobody_named_and_a_host_that_is_not_ours(recorder, client, settings):
    settings.ALLOWED_HOSTS = ["testserver", ".example.com"]
    # A host that is not the site's gets no further than to Django's own answer.
    for host in ("ada.example.com", "example.com"):
        client.get("/api/test", headers={"host": host})
    client.get("/ada.lovelace@example.org/diary")
    client.generic("ADA", "/api/test")
    found = [what for what, *_ in taken(recorder)]
    assert found[0].host.startswith("{")
    assert found[1].host == "example.com"
    assert recorder._host("ada.test") == ""
    assert found[2].route == ""
    assert found[2].path.startswith("/{*")
    assert found[3].method == "OTHER"
    assert "ada" not in str(found).lower()


def test_who_is_known_only_where_somebody_looked(recorder, client, settings):
    user = User.objects.create(username="ada", is_staff=True)
    client.force_login(user)
    client.get("/api/test")
    client.get("/api/test?look")
    found = [who for _, who, *_ in taken(recorder)]
    assert [who.user for who in found] == [
        None,
        digest(settings.IOTA_RATELIMITS.identity_key, "user", str(user.pk)),
    ]
    assert [who.is_staff for who in found] == [False, True]
    assert [who.groups for who in found] == [None, None]
    assert [who.session for who in found] == [None, None]


async def test_on_an_event_loop(recorder, settings):
    user = await User.objects.acreate(username="ada")
    client = AsyncClient()
    await client.aforce_login(user)
    await client.get("/api/async")
    ((what, who, *_),) = taken(recorder)
    assert what.route == "api-async"
    assert who.user == digest(settings.IOTA_RATELIMITS.identity_key, "user", str(user.pk))


async def test_a_client_that_goes_is_recorded_too(recorder):
    client = AsyncClient()
    task = asyncio.ensure_future(client.get("/api/async"))
    await task
    assert len(taken(recorder)) == 1


def test_a_denied_request_names_the_limits_that_denied_it(limit, client, recorder):
    made = limit(quota=1, name="one")
    client.get("/api/test", **ADDRESS)
    client.get("/api/test", **ADDRESS)
    client.get("/api/forbidden", **ADDRESS)
    found = taken(recorder)
    assert [outcome for _, _, outcome, _ in found] == [
        (200, ()), (429, (made.pk,)), (429, (made.pk,)),
    ]  # fmt: skip
    # No view was looked up for it, yet its path is known for what it is.
    assert [what.route for what, *_ in found] == ["api-test", "api-test", "forbidden"]


def test_statuses_and_streams(recorder, client):
    client.get("/api/forbidden")
    list(client.get("/api/stream").streaming_content)
    found = taken(recorder)
    assert [outcome.status for _, _, outcome, _ in found] == [403, 200]
    assert found[1][3] == TOOK_UNKNOWN


def test_exempt_paths_are_not_recorded(recorder, client):
    client.get("/healthz")
    assert taken(recorder) == []


@pytest.fixture
def engine_with(engine, settings):
    """Another engine, of another configuration: gone with the test."""
    made = []

    def make(**changes):
        settings.IOTA_RATELIMITS = replace(settings.IOTA_RATELIMITS, **changes)
        engine.stop()
        forget_engine()
        made.append(get_engine())
        made[0].refresh()
        return made[0]

    yield make
    for each in made:
        each.stop()
        each.limiter.close()


def test_it_is_sampled_by_address(engine_with, client):
    recorder = engine_with(traffic_sample=4).recorder
    for _ in range(2):
        for number in range(100):
            client.get("/api/test", REMOTE_ADDR=f"203.0.113.{number}")
    get_engine().stop()
    whole = together([get_engine().traffic.read(), recorder.take()])
    assert whole.sample == 4
    counts = [list(whole.who).count(place) for place in range(len(whole.whos))]
    # Some of the addresses, and of each all that it asked.
    assert 10 < len(counts) < 45
    assert set(counts) == {2}


def test_it_can_be_switched_off(engine_with, client):
    made = engine_with(traffic_records=0)
    client.get("/api/test")
    made.flush_traffic()
    assert not made.recorder.on
    assert len(made.traffic.read()) == 0


def test_more_than_a_process_records_is_counted_as_lost(recorder, client):
    client.get("/api/test")
    one = list(recorder._waiting)
    recorder._waiting.extend(one * (MOST_IN_BATCH + 4))
    batch = recorder.take()
    assert (len(batch), batch.lost) == (MOST_IN_BATCH, 5)
    recorder._waiting.extend(one * MOST_WAITING)
    client.get("/api/test")
    assert recorder.take().lost == MOST_WAITING - MOST_IN_BATCH + 1
    assert recorder.take().lost == 0


def test_where_redis_is_away_it_is_lost(recorder, client):
    class Away:
        def add(self, batch):
            raise Unavailable("away")

    client.get("/api/test")
    with pytest.raises(Unavailable):
        recorder.flush(Away(), now=True)
    assert not recorder.flush(Away(), now=True)


def test_many_denied_paths_are_not_all_resolved(limit, client, recorder, monkeypatch):
    limit(quota=1, path="/", name="one")
    monkeypatch.setattr("apps.ratelimits.recording.MOST_RESOLVED", 3)
    for number in range(8):
        client.get(f"/users/ada/{number}", **ADDRESS)
    routes = [what.route for what, *_ in taken(recorder)]
    assert routes == ["user"] * 4 + [None] * 4


def test_a_view_may_delete_its_user(recorder, client):
    client.force_login(User.objects.create_user("ada"))
    client.get("/api/test", {"look": ""}, **ADDRESS)
    assert client.get("/api/deleting", **ADDRESS).content == b"gone"
    assert len(taken(recorder)) == 2


def test_what_took_over_an_hour_is_lost_and_nothing_else(recorder, client):
    client.get("/api/test", **ADDRESS)
    waiting = list(recorder._waiting)
    recorder._waiting.extend([waiting[0] - 4_000 * 10**9, *waiting[1:]])
    batch = recorder.take()
    assert (len(batch), batch.lost) == (1, 1)
