"""Drafts, canaries, schedules, and keep or afresh: the form, the list, and who may ask."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from apps.ratelimits.engine import get_engine
from apps.ratelimits.models import RateLimit
from apps.ratelimits.policy.facts import RequestFacts

from .test_admin import LIST, SENTENCE, errors, form, staff

__all__ = ["staff"]

LIFE = f"{LIST}life/"
CANARY = {"mode": "canary", "canary_percent": "12.5"}


def test_a_canary_is_saved_kept_in_the_history_and_shown(staff, engine):
    assert staff.post(f"{LIST}add/", form(**CANARY)).status_code == 302
    limit = RateLimit.objects.get()
    engine.refresh()
    assert engine.index.rules[0].rule.canary_permille == 125
    assert staff.post(f"{LIST}{limit.pk}/change/", form(**CANARY | {"canary_percent": "20"}))
    assert [str(p) for p in limit.history.values_list("canary_percent", flat=True)] == [
        "20.0",
        "12.5",
    ]
    page = staff.get(f"{LIST}{limit.pk}/change/").content.decode()
    assert "Canary, enforced for 20 % of clients, always the same ones" in page
    assert "denies for 20 %" in page
    assert "Canary 20 %" in staff.get(LIST).content.decode()
    assert "percentage of clients" in staff.get(f"{LIST}{limit.pk}/history/").content.decode()


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"canary_percent": "0"}, "canary_percent", "greater than or equal to 0.1"),
        ({"canary_percent": "100"}, "canary_percent", "less than or equal to 99.9"),
        ({"canary_percent": "1.25"}, "canary_percent", "no more than 1 decimal place"),
        ({"canary_percent": ""}, "canary_percent", "Say for what percentage"),
        ({"counted_by": "everyone"}, "mode", "everyone together is one count"),
    ],
)
def test_a_canary_that_cannot_be_is_refused(staff, changes, field, said):
    found = errors(staff.post(f"{LIST}add/", form(**{**CANARY, **changes})))
    assert list(found) == [field]
    assert said in found[field][0]
    assert not RateLimit.objects.exists()


@pytest.mark.parametrize("percent", ["", None])
def test_in_another_mode_the_percentage_is_as_it_usually_is(staff, percent):
    values = form() if percent is None else form(canary_percent=percent)
    assert staff.post(f"{LIST}add/", values).status_code == 302
    assert RateLimit.objects.get().canary_percent == 10


def test_a_draft_is_saved_and_not_published(staff, engine):
    assert staff.post(f"{LIST}add/", form(mode="draft")).status_code == 302
    engine.refresh()
    assert engine.index.rules == ()
    assert engine.candidates(RequestFacts("GET", "/api/x", "203.0.113.9")) == []


def test_a_canary_that_could_lock_staff_out_is_asked_for(staff):
    tight = {"path": "/admin/", "quota": "3", **CANARY}
    found = errors(staff.post(f"{LIST}add/", form(**tight)))
    assert "takes 3 requests in a row" in found["lock_out"][0]
    assert staff.post(f"{LIST}add/", form(**tight, lock_out="on")).status_code == 302


def make(name: str, **changes) -> RateLimit:
    return RateLimit.objects.create(name=name, **{"quota": 100, "mode": "shadow", **changes})


def act(staff, action: str, *limits: RateLimit, **more):
    chosen = [limit.pk for limit in limits]
    data = {"action": action, "_selected_action": chosen, **more}
    return staff.post(LIST, data, follow=True)


def test_limits_become_canaries_together_but_those_that_cannot(staff):
    one, all_of = make("one"), make("all-of", counted_by="everyone")
    page = act(staff, "canary", one, all_of).content.decode()
    assert "1 of 2 changed to canary." in page
    assert "all-of was left as it is. It cannot be a canary: everyone together" in page
    assert [limit.mode for limit in RateLimit.objects.order_by("name")] == ["shadow", "canary"]


def test_canaries_that_could_lock_staff_out_are_asked_for_together(staff):
    tight = make("tight", path_kind="prefix", path="/admin/", quota=3)
    page = act(staff, "canary", tight).content.decode()
    assert "Canary 1 limit? It could lock you out" in page
    assert 'name="action" value="canary"' in page
    told = page.partition('name="told" value="')[2].partition('"')[0]
    act(staff, "canary", tight, confirmed="all", told=told)
    assert RateLimit.objects.get().mode == "canary"


def test_the_strip_follows_what_is_typed(staff):
    page = staff.post(LIFE, form(**CANARY)).content.decode()
    assert 'aria-current="step"' in page
    assert "denies for 12.5 %" in page
    assert not RateLimit.objects.exists()
    assert staff.post(LIFE, form(mode="no such")).status_code == 204
    assert staff.get(LIFE).status_code == 405


def test_the_sentence_says_what_is_wrong_with_a_canary(staff):
    said = staff.post(SENTENCE, form(**CANARY | {"canary_percent": "500"})).content.decode()
    assert "less than or equal to 99.9" in said
    assert "12.5 % of clients" in staff.post(SENTENCE, form(**CANARY)).content.decode()


def test_the_list_says_when_a_limit_begins_or_ended_and_finds_it_so(staff):
    now = timezone.now()
    make("later", active_from=now + timedelta(hours=3, minutes=1))
    make("over", active_until=now - timedelta(days=2, minutes=1))
    make("always")
    make("drafted", mode="draft", active_from=now + timedelta(hours=3))
    page = staff.get(LIST).content.decode().replace("\xa0", " ")
    assert "starts in 3 hours" in page
    assert "ended 2 days ago" in page
    for chosen, names in (
        ("scheduled", ["later"]), ("running", ["always"]), ("ended", ["over"]),
        ("no such", ["always", "drafted", "later", "over"]),
    ):  # fmt: skip
        found = staff.get(LIST, {"schedule": chosen}).context["cl"].queryset
        assert sorted(limit.name for limit in found) == names


def keeping(limit: RateLimit) -> str:
    return f"{LIST}{limit.pk}/keeping/"


def count(limit: RateLimit, clients: int, times: int = 1) -> None:
    engine = get_engine()
    engine.refresh()
    for number in range(clients):
        facts = RequestFacts("GET", "/api/test", f"10.0.0.{number}")
        for _ in range(times):
            engine.check(engine.plan(engine.candidates(facts), facts))


SAVED = {
    "algorithm": "fixed_window",
    "window_unit": 86_400,
    "quota": 3,
    "path_kind": "exact",
    "path": "/api/test",
}
POSTED = {**SAVED, "mode": "shadow"}


def test_starting_afresh_is_offered_whatever_was_opened_before(staff):
    limit = make("one", **SAVED)
    staff.get(f"{LIST}add/")
    staff.post(SENTENCE, form())
    offered = '<input type="checkbox" name="start_afresh"'
    assert offered in staff.get(f"{LIST}{limit.pk}/change/").content.decode()
    assert offered not in staff.get(f"{LIST}add/").content.decode()


def test_the_form_says_how_many_have_something_counted(staff):
    limit = make("one", **SAVED)
    count(limit, 7, 2)
    page = staff.get(f"{LIST}{limit.pk}/change/").content.decode()
    assert "7 clients have something counted." in page
    assert "A new limit has counted nothing." in staff.get(f"{LIST}add/").content.decode()


def test_what_an_edit_does_to_them_is_said_before_it_is_saved(staff):
    limit = make("one", **SAVED)
    count(limit, 7, 2)
    fragment = staff.post(
        keeping(limit), form(**POSTED | {"quota": "2"}), headers={"X-Requested-With": "fetch"}
    ).content.decode()
    assert "With the new rate 7 of 7 are over it at once" in fragment
    assert "<html" not in fragment
    whole = staff.post(keeping(limit), form(**POSTED | {"quota": "2"})).content.decode()
    assert "With the new rate 7 of 7 are over it at once" in whole
    assert "Nothing has been saved" in whole
    assert RateLimit.objects.get().quota == 3
    # It is what then happens.
    RateLimit.objects.update(quota=2, mode="enforce")
    engine = get_engine()
    engine.refresh()
    facts = RequestFacts("GET", "/api/test", "10.0.0.0")
    assert not engine.check(engine.plan(engine.candidates(facts), facts)).allowed


def test_a_form_that_is_wrong_says_so_first(staff):
    limit = make("one", **SAVED)
    page = staff.post(keeping(limit), form(**POSTED | {"quota": "many"})).content.decode()
    assert "First correct what is wrong in the form" in page
    assert staff.post(f"{LIST}999/keeping/", form()).status_code == 404
    assert staff.get(keeping(limit)).status_code == 405


def test_without_redis_the_form_opens_and_says_that_it_is_not_known(staff, redis_server):
    limit = make("one", **SAVED)
    redis_server.pause()
    try:
        page = staff.get(f"{LIST}{limit.pk}/change/")
    finally:
        redis_server.resume()
    assert page.status_code == 200
    assert "Not known: Redis does not answer." in page.content.decode()


def test_who_may_only_look_is_told_nothing_of_edits(engine, client):
    viewer = User.objects.create_user("viewer", password="x", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_ratelimit"))
    client.force_login(viewer)
    limit = make("one")
    for url in (LIFE, keeping(limit)):
        assert client.post(url, form()).status_code == 403
    assert client.get(f"{LIST}{limit.pk}/change/").status_code == 200
    client.logout()
    for url in (LIFE, keeping(limit)):
        assert client.post(url, form()).status_code == 302
