"""The page of an identity: its bars, and reset, block and exempt, each for whom may."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.utils import timezone

from apps.ratelimits.models import Override, RateLimit
from apps.ratelimits.storage.errors import Unavailable

from .test_admin_sweeps import person, text

PAGE = "/admin/ratelimits/ratelimit/identity/"
ADDRESS = "203.0.113.9"
ALL = ("view_ratelimit", "reset_identity", "add_override", "change_override", "publish_ratelimit")


@pytest.fixture
def staff(engine, admin_client):
    return admin_client


@pytest.fixture
def limits(engine):
    make = RateLimit.objects.create
    api = {"path_kind": "prefix", "path": "/api/", "window_unit": 3600}
    make(name="few", quota=2, **api)
    make(name="log", quota=50, algorithm="sliding_log", **api)
    make(name="users", quota=10, counted_by="user", audience="signed_in", **api)
    make(name="together", quota=100, counted_by="everyone", **api)
    engine.refresh()


@pytest.fixture
def spent(limits, client):
    client.defaults["REMOTE_ADDR"] = ADDRESS
    assert [client.get("/api/test").status_code for _ in range(3)] == [200, 200, 429]
    return client


def post(client, **data) -> str:
    return text(client.post(PAGE, {"address": ADDRESS, **data}))


def test_an_empty_page_says_what_will_be_there(staff):
    said = text(staff.get(PAGE))
    assert "Here will be a bar for every limit that counts somebody" in said
    assert "This field is required" not in said


def test_a_bar_in_every_limit_that_counts_them_the_fullest_first(staff, spent):
    said = post(staff)
    assert "Address 203.0.113.9: 4 units used in 2 limits" in said
    assert said.index(">few</a>") < said.index(">log</a>")
    assert "2 of 2 used; the next in" in said
    assert "Denies</span>" in said
    assert ">users</a>" not in said
    assert "1 limit counts it together with others" in said


def test_a_digest_alone_shows_the_same_and_can_only_be_reset(staff, spent, engine):
    digest = engine.limiter.digests.of(("address", ADDRESS))
    said = text(staff.get(PAGE, {"digest": digest}))
    assert f"Digest {digest[:8]}: 4 units used in 2 limits" in said
    assert "It can be reset, and not blocked or exempt" in said
    assert 'value="reset"' in said
    assert 'value="block"' not in said


def test_reset_is_told_in_numbers_then_done_in_force_and_logged(staff, spent):
    said = post(staff, what="reset")
    assert "Reset address 203.0.113.9?" in said
    assert "4 used units in 2 limits are forgotten" in said
    assert spent.get("/api/test").status_code == 429
    assert LogEntry.objects.count() == 0
    said = post(staff, what="reset", confirmed="1")
    assert "Reset: 4 units in 2 limits are forgotten" in said
    assert "nothing used in 2 limits" in said
    assert spent.get("/api/test").status_code == 200
    (entry,) = LogEntry.objects.all()
    assert entry.change_message == "Reset an identity: 4 units in 2 limits."
    # Digests alone: who they are is nobody's to read there.
    assert ADDRESS not in entry.object_repr + entry.change_message


def test_a_reset_of_everyone_is_warned_of(staff, spent, engine):
    digest = engine.limiter.digests.of(("everyone", ""))
    said = text(staff.post(PAGE, {"digest": digest, "what": "reset"}))
    assert "This digest stands for everyone together: a reset frees all clients." in said


@pytest.mark.parametrize(("what", "status"), [("block", 429), ("exempt", 200)])
@pytest.mark.parametrize(
    ("preset", "lasts"), [("hour", timedelta(hours=1)), ("week", timedelta(days=7))]
)
def test_two_clicks_block_or_exempt_until(staff, spent, engine, what, status, preset, lasts):
    ask = {"what": what, "target": "network", "preset": preset}
    said = post(staff, **ask)
    assert f"{what.capitalize()} {ADDRESS} until" in said
    assert "of 4 enforced limits" in said
    assert not Override.objects.exists()
    said = post(staff, **ask, confirmed="1", reason="ticket 7")
    assert f"{'Blocked' if what == 'block' else 'Exempt'}: {ADDRESS}, until" in said
    (override,) = Override.objects.all()
    assert override.action == ("blocked" if what == "block" else "unlimited")
    assert (override.network, override.limit, override.reason) == (ADDRESS, None, "ticket 7")
    assert abs(override.until - timezone.now() - lasts) < timedelta(minutes=1)
    engine.refresh()
    assert spent.get("/api/test").status_code == status
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.get_edited_object()) == (str(override.pk), override)
    assert override.history.count() == 1


def test_until_a_date_asks_for_it_first(staff, spent):
    ask = {"what": "exempt", "target": "network", "preset": "date"}
    said = post(staff, **ask)
    assert "Until when?" in said
    said = post(staff, **ask, date="2001-01-01T10:00")
    assert "That time has passed" in said
    # What comes next is asked about in numbers, too.
    assert 'name="confirmed"' not in said
    said = post(staff, **ask, date="2001-01-01T10:00", confirmed="1")
    assert 'name="confirmed"' not in said
    assert not Override.objects.exists()
    until = timezone.now() + timedelta(days=3)
    said = post(staff, **ask, date=f"{until:%Y-%m-%dT%H:%M}")
    assert "Yes, exempt" in said
    post(staff, **ask, date=f"{until:%Y-%m-%dT%H:%M}", confirmed="1")
    override = Override.objects.get()
    assert abs(override.until - until) < timedelta(minutes=1)


def test_a_user_is_blocked_rather_than_the_address_where_that_is_chosen(staff, limits):
    ada = User.objects.create_user("ada")
    both = {"user": "ada", "what": "block", "preset": "day"}
    said = post(staff, user="ada")
    assert "user ada</label>" in said
    said = post(staff, **both, target="user", confirmed="1")
    assert "Blocked: user ada, until" in said
    assert Override.objects.get().user == ada
    assert "Choose whom" in post(staff, **both, target="key")


def test_a_second_time_the_same_override_is_changed(staff, spent):
    ask = {"target": "network", "confirmed": "1"}
    post(staff, what="block", preset="hour", **ask)
    said = post(staff, what="exempt", preset="day", target="network")
    assert "The override that is there for it already is changed." in said
    post(staff, what="exempt", preset="day", **ask)
    (override,) = Override.objects.all()
    assert override.action == "unlimited"
    assert override.history.count() == 2


def test_another_quota_is_not_thrown_away(staff, spent):
    kept = Override.objects.create(network=ADDRESS, action="quota", quota=77)
    said = post(staff, what="block", target="network", preset="hour", confirmed="1")
    assert "has another quota already, of 77" in said
    assert f"/override/{kept.pk}/change/" in said
    (override,) = Override.objects.all()
    assert override.action == "quota"


def test_an_override_of_one_limit_that_wins_is_told(staff, spent):
    few = RateLimit.objects.get(name="few")
    Override.objects.create(network=ADDRESS, action="unlimited", limit=few)
    said = post(staff, what="block", target="network", preset="hour")
    assert "For few the override that is there stays: it came first." in said


def test_blocking_oneself_is_asked_about(staff, engine):
    RateLimit.objects.create(name="admin", quota=1_000, path_kind="prefix", path="/admin/")
    engine.refresh()
    ask = {"address": "127.0.0.1", "what": "block", "target": "network", "preset": "hour"}
    said = text(staff.post(PAGE, {**ask, "confirmed": "1"}))
    assert "It blocks you at /admin/" in said
    assert not Override.objects.exists()
    text(staff.post(PAGE, {**ask, "confirmed": "1", "lock_out": "1"}))
    assert Override.objects.exists()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({}, "Say who: an address, a user, a key, a session, or a digest."),
        ({"address": "x"}, "No address"),
        ({"digest": "short"}, "No digest: it has 20"),
        ({"digest": "a" * 20, "address": ADDRESS}, "A digest stands alone"),
        ({"key": "k"}, "A key and the header that holds it go together."),
        ({"user": "nobody"}, "No user of the site is called so."),
        ({"key": "k" * 600, "header": "X-Api-Key"}, "at most 512 characters"),
    ],
)
def test_bad_input_gets_a_clear_error(staff, data, error):
    said = text(staff.post(PAGE, data))
    assert error in said
    assert 'id="standing"' not in said


def test_each_page_and_button_for_who_may(engine, limits, client):
    cases = {
        (): (403, 403, 403),
        ("view_ratelimit",): (200, 403, 403),
        ("view_ratelimit", "reset_identity"): (200, 200, 403),
        ("view_ratelimit", "add_override", "change_override"): (200, 403, 403),
        ("view_ratelimit", "add_override", "change_override", "publish_ratelimit"): (200, 403, 200),
        ("reset_identity", "add_override", "change_override", "publish_ratelimit"): (403, 403, 403),
    }
    block = {"what": "block", "target": "network", "preset": "hour", "confirmed": "1"}
    for codenames, (look, reset, blocked) in cases.items():
        User.objects.all().delete()
        person(client, *codenames)
        assert client.post(PAGE, {"address": ADDRESS}).status_code == look, codenames
        asked = {"address": ADDRESS, "what": "reset", "confirmed": "1"}
        assert client.post(PAGE, asked).status_code == reset, codenames
        assert client.post(PAGE, {"address": ADDRESS, **block}).status_code == blocked, codenames
        assert Override.objects.exists() == (blocked == 200)
        Override.objects.all().delete()
    User.objects.all().delete()
    person(client, *ALL)
    said = text(client.post(PAGE, {"address": ADDRESS}))
    assert 'value="reset"' in said
    assert 'value="block"' in said
    User.objects.all().delete()
    person(client, "view_ratelimit")
    said = text(client.post(PAGE, {"address": ADDRESS}))
    assert 'value="reset"' not in said
    assert 'value="block"' not in said
    assert "You may look, and not reset" in said


def test_redis_away_is_said_and_nothing_breaks(staff, limits, engine, monkeypatch):
    def away(*args, **options):
        raise Unavailable("away")

    monkeypatch.setattr(engine.limiter.redis, "ask", away)
    assert "Redis does not answer: where this identity stands is not known." in post(staff)


def test_html_in_what_is_typed_stays_text(staff, limits):
    data = {"header": "X-Api-Key", "key": "<script>alert(1)</script>"}
    said = text(staff.post(PAGE, data))
    assert "<script>alert(1)" not in said


def test_overrides_are_shown_to_whom_may_see_overrides(engine, limits, client):
    Override.objects.create(network=ADDRESS, action="blocked", reason="a secret why")
    person(client, "view_ratelimit")
    assert "a secret why" not in post(client)
    User.objects.all().delete()
    person(client, "view_ratelimit", "view_override")
    assert "a secret why" in post(client)


def test_where_the_site_wants_a_reason_it_wants_one_here(staff, limits, settings):
    settings.IOTA_RATELIMITS = replace(settings.IOTA_RATELIMITS, reason_required=True)
    ask = {"what": "block", "target": "network", "preset": "hour", "confirmed": "1"}
    assert "Nothing was changed." in post(staff, **ask)
    assert not Override.objects.exists()
    post(staff, **ask, reason="ticket 8")
    assert Override.history.get().history_change_reason == "ticket 8"
    # Once more without: what it was for stays written down.
    settings.IOTA_RATELIMITS = replace(settings.IOTA_RATELIMITS, reason_required=False)
    post(staff, **{**ask, "preset": "day"})
    assert Override.objects.get().reason == "ticket 8"
