"""Staff at their pages."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission

from apps.ratelimits import wording
from apps.ratelimits.models import Override, RateLimit

LIST = "/admin/ratelimits/ratelimit/"


@pytest.fixture
def staff(engine, admin_client):
    return admin_client


def form(**changes) -> dict[str, object]:
    values = {
        "name": "one",
        "mode": "enforce",
        "path_kind": "prefix",
        "path": "/api/",
        "audience": "everyone",
        "counted_by": "address",
        "algorithm": "token_bucket",
        "quota": "100",
        "window_amount": "1",
        "window_unit": "60",
        "cost": "1",
        "counts": "every",
        "block_unit": "60",
        "on_failure": "local",
    }
    return {**values, **changes}


def errors(response) -> dict[str, list[str]]:
    return dict(response.context["adminform"].form.errors)


def test_a_saved_limit_is_published_and_logged(staff, engine):
    assert staff.post(f"{LIST}add/", form(methods="post, get")).status_code == 302
    engine.refresh()
    (compiled,) = engine.index.rules
    assert compiled.rule.methods == {"GET", "POST"}
    assert LogEntry.objects.get().object_repr == "one"
    assert RateLimit.objects.get().history.get().history_user.username == "admin"


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"cost": "101"}, "quota", "every request would be denied"),
        ({"quota": "0"}, "quota", "greater than or equal to 1"),
        ({"window_amount": "400", "window_unit": "86400"}, "quota", "window_us"),
        ({"path_kind": "regex", "path": "("}, "path", "RE2 does not accept"),
        ({"path": "api"}, "path", "must begin with"),
        ({"path_kind": "regex", "path": ""}, "path", "matches no path"),
        ({"networks": "10.0.0.0/33"}, "networks", "is no network"),
        ({"methods": "FETCH"}, "methods", "unknown method"),
        ({"name": "Not a slug"}, "name", "lower-case"),
        ({"algorithm": "fixed_window", "burst": "5"}, "burst", "leave it empty"),
        ({"counted_by": []}, "counted_by", "required"),
        ({"counted_by": ["cookie"]}, "counted_by", "not one of the available"),
        ({"counted_by": ["address", "everyone"]}, "counted_by", "choose it alone"),
        ({"counted_by": ["header"]}, "header", "Name the header"),
        ({"counted_by": ["header"], "header": "X Key"}, "header", "such as X-Api-Key"),
        ({"counts": "status"}, "statuses", "Name the statuses"),
        ({"counts": "status", "statuses": "401, 6xx"}, "statuses", "write 404, 5xx or 400-428"),
        ({"counts": "signal"}, "signal", "Choose the signal"),
        ({"counts": "signal", "signal": "no_such"}, "signal", "not one of the available"),
        ({"algorithm": "concurrency", "charge_denied": "on"}, "charge_denied", "holds no slot"),
        (
            {"algorithm": "concurrency", "counts": "status", "statuses": "401"},
            "counts",
            "before there is a response",
        ),
        ({"block_amount": "400", "block_unit": "86400"}, "quota", "block_us"),
        ({"counted_by": ["view_argument"]}, "view_argument", "Name the argument"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_with_a_reason(staff, changes, field, said):
    response = staff.post(f"{LIST}add/", form(**changes))
    assert response.status_code == 200
    assert said in str(errors(response)[field])
    assert not RateLimit.objects.exists()


def test_a_cost_over_an_overrides_quota_is_refused(staff):
    limit = RateLimit.objects.create(name="one", quota=9)
    Override.objects.create(limit=limit, network="10.0.0.0/8", action="quota", quota=2)
    response = staff.post(f"{LIST}{limit.pk}/change/", form(cost="5"))
    assert "With the override" in str(errors(response)["quota"])


def test_actions_change_the_mode_and_are_logged(staff, engine):
    limits = [
        RateLimit.objects.create(name=name, quota=1, path_kind="prefix", path="/api/")
        for name in ("a", "b")
    ]
    for action, modes in (("shadow", {"shadow"}), ("switch_off", set()), ("enforce", {"enforce"})):
        chosen = {"action": action, "_selected_action": [limit.pk for limit in limits]}
        assert staff.post(LIST, chosen).status_code == 302
        engine.refresh()
        assert {compiled.rule.mode.value for compiled in engine.index.rules} == modes
    assert LogEntry.objects.count() == 6


def test_what_is_counted_is_ticked_stored_and_found(staff, engine):
    together = {"counted_by": ["header", "address"], "header": "X-Api-Key", "view_argument": "pk"}
    assert staff.post(f"{LIST}add/", form(**together)).status_code == 302
    limit = RateLimit.objects.get()
    # In one order, and what is not counted by is not kept.
    assert (limit.counted_by, limit.view_argument) == ("address,header", "")
    assert wording.coverage(limit) == "every method on /api/…, per address and X-Api-Key"
    shown = staff.get(f"{LIST}{limit.pk}/change/").context["adminform"].form["counted_by"]
    ticked = [tick.data["value"] for tick in shown if tick.data["selected"]]
    assert ticked == ["address", "header"]
    for value, found in (("header", 1), ("session", 0)):
        assert len(staff.get(LIST, {"counted_by": value}).context["cl"].queryset) == found


SENTENCE = f"{LIST}sentence/"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Each address may call 100 times per minute, any method on /api/…; the next request "
         "waits."),
        ({"methods": "get", "path_kind": "any", "burst": "20"},
         "Each address may call 100 times per minute, at most 20 at once, GET on every path; the"),
        ({"counted_by": ["user", "header"], "header": "X-Key", "audience": "signed_in"},
         "Each user with each key in X-Key of signed-in users may call"),
        ({"counted_by": ["everyone"], "cost": "5", "window_amount": "10", "window_unit": "1"},
         "Everyone together may use 100 units per 10 seconds, 5 a request, "),
        ({"algorithm": "concurrency", "quota": "4", "host": "a.example"},
         "have 4 requests at the same time, any method on /api/… of a.example; "),
        ({"mode": "shadow", "quota": "1"}, "Shadow, which never blocks; enforced it would say: "
         "Each address may call once per minute"),
        ({"networks": "10.0.0.0/8\n192.0.2.0/24", "networks_excluded": "10.1.0.0/16"},
         "Each address from 10.0.0.0/8 or 192.0.2.0/24 but not from 10.1.0.0/16 may call"),
        ({"networks": "\n".join(f"10.{n}.0.0/16" for n in range(9))},
         "from 10.0.0.0/16 or 10.1.0.0/16 or 10.2.0.0/16 or 6 more may call"),
        ({"quota": ""}, "Still to fill in: quota."),
        ({"cost": "101"}, "Quota: a request costs 101, more than the 100"),
        ({"counted_by": [], "window_amount": "x"},
         "Per: Enter a whole number. Still to fill in: counted by."),
    ],
)  # fmt: skip
def test_the_form_is_put_in_a_sentence(staff, changes, said):
    response = staff.post(SENTENCE, form(**changes))
    assert said in response.content.decode()
    assert not RateLimit.objects.exists()


def test_the_sentence_names_groups(staff):
    groups = [Group.objects.create(name=name).pk for name in ("partners", "beta")]
    response = staff.post(SENTENCE, form(groups=groups))
    assert "Each address in beta or partners may call" in response.content.decode()


def test_the_sentence_is_for_staff_who_may_edit(engine, client, django_user_model):
    assert client.post(SENTENCE, form()).status_code == 302
    client.force_login(django_user_model.objects.create_user("viewer", is_staff=True))
    assert client.post(SENTENCE, form()).status_code == 403
    client.user = django_user_model.objects.get()
    client.user.user_permissions.add(Permission.objects.get(codename="change_ratelimit"))
    assert client.post(SENTENCE, form()).status_code == 200
    assert client.get(SENTENCE).status_code == 405


def test_starting_afresh_forgets_what_was_counted(staff):
    limit = RateLimit.objects.create(name="one", quota=5)
    staff.post(f"{LIST}{limit.pk}/change/", form(quota="6"))
    limit.refresh_from_db()
    assert (limit.quota, limit.epoch) == (6, 0)
    staff.post(f"{LIST}{limit.pk}/change/", form(quota="7", start_afresh="on"))
    limit.refresh_from_db()
    assert (limit.quota, limit.epoch) == (7, 1)


def test_another_algorithm_starts_afresh(staff):
    limit = RateLimit.objects.create(name="one", quota=3)
    staff.post(f"{LIST}{limit.pk}/change/", form(algorithm="fixed_window"))
    limit.refresh_from_db()
    assert (limit.algorithm, limit.epoch) == ("fixed_window", 1)


def test_staff_are_told_when_redis_did_not_hear_of_it(staff, redis_server):
    redis_server.pause()
    try:
        response = staff.post(f"{LIST}add/", form())
    finally:
        redis_server.resume()
    assert response.status_code == 302
    assert RateLimit.objects.exists()
    assert "Redis does not answer" in staff.get(LIST).content.decode()


def test_permissions_are_respected(engine, client, django_user_model):
    limit = RateLimit.objects.create(name="one", quota=5)
    user = django_user_model.objects.create_user("viewer", is_staff=True)
    client.force_login(user)
    assert client.get(LIST).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_ratelimit"))
    assert client.get(LIST).status_code == 200
    assert client.post(f"{LIST}{limit.pk}/change/", form(quota="9")).status_code == 403
    client.post(LIST, {"action": "switch_off", "_selected_action": [limit.pk]})
    limit.refresh_from_db()
    assert (limit.quota, limit.mode) == (5, "enforce")


@pytest.mark.parametrize("page", ["", "add/", "1/change/", "1/history/", "1/delete/"])
def test_every_page_opens(staff, page):
    RateLimit.objects.create(pk=1, name="one", quota=5, path_kind="prefix", path="/api/")
    assert staff.get(f"{LIST}{page}").status_code == 200


OVERRIDES = "/admin/ratelimits/override/"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Name one of user, group, network and key"),
        ({"network": "10.0.0.0/33"}, "is no network"),
        ({"network": "10.0.0.0/8", "action": "quota"}, "Goes with"),
        ({"header": "X-Api-Key"}, "Goes with the header"),
        ({"header": "X-Api-Key", "key_of": "ada", "network": "192.0.2.0/24"}, "Name one of"),
        ({"network": "10.0.0.0/8", "action": "quota", "quota": "1"}, "For limit one"),
        ({"network": "10.0.0.0/8", "action": "quota", "quota": "1", "limit": ""}, "For limit one"),
        ({"network": "192.0.2.0/24"}, "There is an override"),
    ],
)
def test_an_override_that_cannot_be_is_refused(staff, changes, said):
    limit = RateLimit.objects.create(name="one", quota=5, cost=2)
    Override.objects.create(limit=limit, network="192.0.2.0/24", action="blocked")
    response = staff.post(f"{OVERRIDES}add/", {"limit": limit.pk, "action": "blocked", **changes})
    assert response.status_code == 200
    assert said in str(errors(response))
    assert Override.objects.count() == 1


@pytest.mark.parametrize("page", ["", "add/", "1/change/"])
def test_every_page_of_overrides_opens(staff, page):
    Override.objects.create(pk=1, network="192.0.2.0/24", action="blocked")
    assert staff.get(f"{OVERRIDES}{page}").status_code == 200


EVERYWHERE = {"path_kind": "any", "path": ""}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quota": "19"}, "takes 19 requests in a row"),
        ({"quota": "50", "window_unit": "86400"}, "takes 2 requests an hour"),
        ({"quota": "2", "algorithm": "concurrency"}, "lets 2 in at once"),
        ({"quota": "60", "cost": "10"}, "takes 6 requests in a row"),
        ({"quota": "5", "path_kind": "exact", "path": "/admin/login/", "methods": "POST"}, "POST"),
        ({"quota": "5", "path_kind": "view", "path": "admin:login"}, "/admin/login/"),
        ({"quota": "5", "active_from_0": "2030-01-01", "active_from_1": "00:00"}, "in a row"),
    ],
)
def test_a_limit_that_locks_its_author_out_must_be_confirmed(staff, changes, said):
    values = form(**{**EVERYWHERE, **changes})
    refused = staff.post(f"{LIST}add/", values)
    (text,) = errors(refused)["lock_out"]
    assert said in text
    assert b'name="lock_out"' in refused.content
    assert not RateLimit.objects.exists()
    assert staff.post(f"{LIST}add/", {**values, "lock_out": "on"}).status_code == 302
    assert RateLimit.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"quota": "20"},
        {"quota": "1", "mode": "shadow"},
        {"quota": "1", "path_kind": "prefix", "path": "/api/"},
        {"quota": "1", "networks": "203.0.113.0/24"},
        {"quota": "1", "host": "api.example.com"},
        {"quota": "3", "algorithm": "concurrency"},
    ],
)
def test_a_limit_that_leaves_the_admin_usable_is_saved_at_once(staff, changes):
    assert staff.post(f"{LIST}add/", form(**{**EVERYWHERE, **changes})).status_code == 302


def test_overrides_count_for_the_lock_out(staff):
    values = form(**EVERYWHERE, quota="1")
    Override.objects.create(network="127.0.0.0/8", action="unlimited")
    assert staff.post(f"{LIST}add/", values).status_code == 302
    Override.objects.update(action="blocked")
    refused = staff.post(f"{LIST}add/", {**values, "name": "two", "quota": "1000"})
    assert "blocks you" in errors(refused)["lock_out"][0]


def test_a_group_in_the_form_counts_for_the_lock_out(staff, admin_user):
    group = Group.objects.create(name="duty")
    values = form(**EVERYWHERE, quota="1", groups=[group.pk])
    assert staff.post(f"{LIST}add/", values).status_code == 302
    admin_user.groups.add(group)
    assert "lock_out" in errors(staff.post(f"{LIST}add/", {**values, "name": "two"}))


def test_whoever_may_only_look_sees_the_limit_and_its_sentence(engine, client, django_user_model):
    limit = RateLimit.objects.create(name="one", quota=5, counted_by="address,user")
    viewer = django_user_model.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_ratelimit"))
    client.force_login(viewer)
    page = client.get(f"{LIST}{limit.pk}/change/")
    assert page.status_code == 200
    assert "Each address with each user may call 5 times per minute" in page.content.decode()
    assert client.post(SENTENCE, form()).status_code == 403


LOGIN = {"path": "/admin/login/", "path_kind": "exact", "methods": "POST", "quota": "5"}


@pytest.mark.parametrize(
    ("changes", "asks"),
    [
        ({}, True),
        ({"counts": "signal", "signal": "user_login_failed"}, False),
        ({"counts": "status", "statuses": "4xx"}, False),
        # What a person at work gets counts here, or too few can be under way at once.
        ({"counts": "signal", "signal": "user_logged_in"}, True),
        ({"counts": "status", "statuses": "302"}, True),
        ({"counts": "signal", "signal": "user_login_failed", "quota": "2"}, True),
    ],
)
def test_a_limit_on_failed_logins_is_no_lock_out(staff, changes, asks):
    response = staff.post(f"{LIST}add/", form(**{**LOGIN, **changes}))
    assert (response.status_code == 200 and "lock_out" in errors(response)) is asks
    assert RateLimit.objects.exists() is not asks


def test_what_counts_and_what_a_denial_costs_are_put_in_words():
    limit = RateLimit(
        quota=5,
        window_amount=15,
        window_unit=60,
        counts="signal",
        signal="user_login_failed",
        block_amount=1,
        block_unit=3600,
    )
    said = wording.sentence(limit, ())
    assert "counted only where it raises user_login_failed" in said
    assert said.endswith("the next request is denied, and every one for 1 hour after it.")
    limit.block_amount, limit.charge_denied = None, True
    limit.counts, limit.statuses = "status", "401, 5xx"
    said = wording.sentence(limit, ())
    assert "counted only where the answer is 401 or 5xx" in said
    assert said.endswith("asking meanwhile prolongs the wait.")
