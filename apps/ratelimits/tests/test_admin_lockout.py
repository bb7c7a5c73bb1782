"""Edits that would keep staff out of the admin, or a load balancer from its health checks."""

from __future__ import annotations

from html import unescape
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.test import override_settings

from apps.ratelimits.models import Override, RateLimit

from .test_admin import LIST, OVERRIDES, errors, form

EVERYWHERE = {"path_kind": "any", "path": ""}
ADMIN = {"path_kind": "prefix", "path": "/admin/"}


def configured(**changes):
    """The site's configuration with some parts changed."""
    config = settings.IOTA_RATELIMITS
    values = {name: getattr(config, name) for name in type(config).__slots__}
    return override_settings(IOTA_RATELIMITS=SimpleNamespace(**{**values, **changes}))


@pytest.fixture
def staff(engine, admin_client):
    """Asked, never limited: else what is enforced here would deny the rest of the test."""
    with configured(disabled=True):
        admin_client.get("/healthz")
    return admin_client


def objections(client, **changes) -> list[str]:
    """What the form of a new limit says before it saves it; and it does not."""
    known = RateLimit.objects.count()
    response = client.post(f"{LIST}add/", form(**changes))
    if response.status_code == 302:
        return []
    assert set(errors(response)) == {"lock_out"}
    assert RateLimit.objects.count() == known
    return errors(response)["lock_out"]


def test_the_page_that_undoes_a_limit_must_stay_open(staff):
    limit = RateLimit.objects.create(name="one", quota=5, path_kind="prefix", path="/api/")
    for path in (f"{limit.pk}/change/", f"{limit.pk}/history/", ""):
        values = form(path_kind="exact", path=f"{LIST}{path}", quota="5")
        (said,) = errors(staff.post(f"{LIST}{limit.pk}/change/", values))["lock_out"]
        assert f"It covers the admin (GET {LIST}{path}) and takes 5 requests in a row" in said
    values = form(path_kind="view", path="admin:ratelimits_ratelimit_change", quota="5")
    assert "lock_out" in errors(staff.post(f"{LIST}{limit.pk}/change/", values))
    posts = form(path_kind="exact", path=f"{LIST}{limit.pk}/change/", quota="5", methods="POST")
    assert "(POST /" in errors(staff.post(f"{LIST}{limit.pk}/change/", posts))["lock_out"][0]


def test_what_everyone_shares_is_used_up_by_visitors(staff):
    shared = {**ADMIN, "counted_by": ["everyone"], "quota": "100000"}
    (said,) = objections(staff, **shared)
    assert "counts everyone together, 100,000 in 60 s" in said
    # Guesses of anybody would close the log-in to all.
    failed = {"counts": "signal", "signal": "user_login_failed"}
    assert objections(staff, **{**shared, **failed})
    assert objections(staff, **{**shared, "algorithm": "concurrency", "quota": "50"})
    assert not objections(staff, **{**shared, "name": "two", "audience": "staff"})
    assert not objections(staff, **{**shared, "name": "three", "mode": "shadow"})
    elsewhere = {"path_kind": "prefix", "path": "/api/"}
    assert not objections(staff, **{**shared, "name": "four", **elsewhere})


def test_a_limit_that_denies_while_redis_is_away_closes_the_admin(staff):
    (said,) = objections(staff, **ADMIN, on_failure="deny")
    assert "answers 503 to every request while Redis is away" in said
    assert not objections(staff, **ADMIN, on_failure="allow")


def test_every_reason_is_said_once(staff):
    told = objections(staff, **ADMIN, counted_by=["everyone"], quota="2", on_failure="deny")
    assert len(told) == 3


def test_health_checks_that_are_not_exempt_must_not_be_denied(staff):
    everywhere = {**EVERYWHERE, "quota": "60", "name": "sixty"}
    assert not objections(staff, **everywhere)
    with configured(exempt_paths=("/static/",)):
        (said,) = objections(staff, **{**everywhere, "name": "two"})
        assert "It covers the health check /healthz and /readyz" in said
        assert "takes 3,600 requests an hour" in said
        assert "every 5 s come to 5,760" in said
        assert "IOTA_EXEMPT_PATHS" in said
        assert not objections(staff, **{**EVERYWHERE, "quota": "200", "name": "three"})
        probe = {"path_kind": "exact", "path": "/readyz", "methods": "GET"}
        (said,) = objections(staff, **probe, quota="1")
        assert "It covers the health check /readyz and takes 60 requests an hour" in said
        (said,) = objections(staff, **probe, on_failure="deny")
        assert "answers 503" in said
        (said,) = objections(staff, **probe, counted_by=["everyone"], quota="99999")
        assert "counts everyone together" in said
        assert not objections(staff, **probe, counts="status", statuses="404", name="four")
        # From another network than the load balancer's, or of another path.
        assert not objections(staff, **probe, quota="1", networks="203.0.113.0/24", name="five")
    with configured(exempt_paths=(), health_paths=("/alive",)):
        (said,) = objections(staff, path_kind="exact", path="/alive", quota="1")
        assert "the health check /alive" in said


def test_a_health_check_comes_from_the_load_balancer(staff):
    """The editor's own address is behind it, and is not the one that is limited."""
    from ipaddress import ip_network

    proxied = {"REMOTE_ADDR": "10.0.0.9", "HTTP_X_FORWARDED_FOR": "198.51.100.7"}
    values = form(path_kind="exact", path="/readyz", quota="1", networks="10.0.0.0/8")
    with configured(exempt_paths=(), trusted_proxies=(ip_network("10.0.0.0/8"),)):
        assert "lock_out" in errors(staff.post(f"{LIST}add/", values, **proxied))


def override(**changes) -> dict[str, object]:
    return {"limit": "", "action": "blocked", "network": "127.0.0.0/8", **changes}


def test_an_override_that_blocks_oneself_must_be_confirmed(staff, admin_user):
    RateLimit.objects.create(name="all-pages", quota=1000)
    RateLimit.objects.create(name="api", quota=1000, path_kind="prefix", path="/api/")
    group = Group.objects.create(name="duty")
    admin_user.groups.add(group)
    for whom in ({}, {"network": "", "user": admin_user.pk}, {"network": "", "group": group.pk}):
        refused = staff.post(f"{OVERRIDES}add/", override(**whom))
        (said,) = errors(refused)["lock_out"]
        assert said.startswith("all-pages: It blocks you at /admin/ (GET), by an override.")
        assert b'name="lock_out"' in refused.content
        assert not Override.objects.exists()
    assert staff.post(f"{OVERRIDES}add/", override(lock_out="on")).status_code == 302
    # It does so already: saving it again is no news.
    again = override(until_0="2099-01-01", until_1="00:00")
    url = f"{OVERRIDES}{Override.objects.get().pk}/change/"
    assert staff.post(url, again).status_code == 302


def test_an_override_that_concerns_others_is_saved_at_once(staff, django_user_model):
    RateLimit.objects.create(name="all-pages", quota=1000)
    other = django_user_model.objects.create_user("other")
    for whom in ({"network": "203.0.113.0/24"}, {"network": "", "user": other.pk}):
        assert staff.post(f"{OVERRIDES}add/", override(**whom)).status_code == 302
    # A block of oneself where the admin is not limited locks nobody out.
    api = RateLimit.objects.create(name="api", quota=10, path_kind="prefix", path="/api/")
    assert staff.post(f"{OVERRIDES}add/", override(limit=api.pk)).status_code == 302


def test_a_small_quota_of_ones_own_must_be_confirmed(staff):
    limit = RateLimit.objects.create(name="all-pages", quota=1000)
    values = override(action="quota", quota="3", limit=limit.pk)
    (said,) = errors(staff.post(f"{OVERRIDES}add/", values))["lock_out"]
    assert "all-pages: It covers the admin" in said
    assert "takes 3 requests in a row" in said


def test_taking_ones_own_exception_away_is_warned_of(staff):
    limit = RateLimit.objects.create(name="narrow", quota=1, **ADMIN)
    saved = Override.objects.create(limit=limit, network="127.0.0.0/8", action="unlimited")
    url = f"{OVERRIDES}{saved.pk}/"
    # Moved to another network, or to another limit, it is gone for oneself.
    other = RateLimit.objects.create(name="api", quota=9, path_kind="prefix", path="/api/")
    for changes in ({"network": "203.0.113.0/24", "limit": limit.pk}, {"limit": other.pk}):
        values = override(action="unlimited", **changes)
        (said,) = errors(staff.post(f"{url}change/", values))["lock_out"]
        assert said.startswith("narrow: It covers the admin")
    assert "Without it: narrow: It covers the admin" in staff.get(f"{url}delete/").content.decode()
    chosen = {"action": "delete_selected", "_selected_action": [saved.pk]}
    assert "Without it: narrow:" in staff.post(OVERRIDES, chosen).content.decode()
    assert staff.post(f"{url}delete/", {"post": "yes"}).status_code == 302


def test_many_limits_are_named_in_one_line(staff):
    for number in range(5):
        RateLimit.objects.create(name=f"limit-{number}", quota=1000)
    (said,) = errors(staff.post(f"{OVERRIDES}add/", override()))["lock_out"]
    assert said.startswith("limit-0, limit-1, limit-2 and 2 more: It blocks you")


def test_an_older_version_is_asked_for_before_it_is_restored(staff):
    limit = RateLimit.objects.create(name="one", quota=5, **ADMIN)
    limit.quota = 1000
    limit.save()
    first = limit.history.earliest()
    url = f"{LIST}{limit.pk}/history/{first.pk}/"
    assert "takes 5 requests in a row" in staff.post(url, form(**ADMIN, quota="5")).content.decode()
    limit.refresh_from_db()
    assert limit.quota == 1000


@pytest.fixture
def three(staff):
    """One harmless, one that locks out, one that cannot be enforced."""
    rate = {"quota": 3, "mode": "shadow"}
    return [
        RateLimit.objects.create(name="harmless", path_kind="prefix", path="/api/", **rate),
        RateLimit.objects.create(name="narrow", **ADMIN, **rate),
        RateLimit.objects.create(name="broken", path_kind="regex", path="(", **rate),
    ]


def modes() -> dict[str, str]:
    return dict(RateLimit.objects.values_list("name", "mode"))


def enforce(client, limits, **answer):
    chosen = [limit.pk for limit in limits]
    return client.post(LIST, {"action": "enforce", "_selected_action": chosen, **answer})


def test_the_bulk_action_asks_first_in_numbers(staff, three):
    page = enforce(staff, three)
    assert page.status_code == 200
    text = unescape(page.content.decode())
    assert "Enforce 2 limits? One of them could lock you out" in text
    assert "Each address may call 3 times per minute, any method on /admin/…" in text
    assert "It covers the admin (GET /admin/) and takes 3 requests in a row" in text
    assert "manage.py ratelimit disable narrow" in text
    assert "broken: RE2 does not accept" in text
    assert set(modes().values()) == {"shadow"}


@pytest.mark.parametrize(
    ("answer", "enforced"), [("harmless", {"harmless"}), ("all", {"harmless", "narrow"})]
)
def test_what_was_confirmed_is_done(staff, three, answer, enforced):
    asked = enforce(staff, three).context["asked"]
    response = enforce(staff, three, confirmed=answer, told=asked.told)
    assert response.status_code == 302
    assert {name for name, mode in modes().items() if mode == "enforce"} == enforced
    told = [str(message) for message in staff.get(LIST).context["messages"]]
    assert f"{len(enforced)} of 3 changed to enforce." in told
    assert any("broken was left as it is. It cannot be enforced: RE2" in text for text in told)


def test_a_confirmation_is_of_what_was_shown(staff, three):
    """Between page and answer somebody lowered the quota: it is asked again."""
    told = enforce(staff, three).context["asked"].told
    RateLimit.objects.filter(name="narrow").update(quota=1)
    again = enforce(staff, three, confirmed="all", told=told)
    assert again.status_code == 200
    assert "please look once more" in again.content.decode()
    assert "takes 1 request in a row" in again.content.decode()
    assert set(modes().values()) == {"shadow"}
    assert enforce(staff, three, confirmed="all").status_code == 200


def test_all_of_a_filtered_list_are_confirmed_together(staff, three):
    across = {"select_across": "1"}
    page = enforce(staff, three[:1], **across)
    assert b'name="select_across" value="1"' in page.content
    enforce(staff, three[:1], confirmed="all", told=page.context["asked"].told, **across)
    assert modes() == {"harmless": "enforce", "narrow": "enforce", "broken": "shadow"}


def test_nothing_is_asked_where_nothing_speaks_against_it(staff, three):
    assert enforce(staff, three[:1]).status_code == 302
    assert modes()["harmless"] == "enforce"
    # Taking a limit out of force never locks anybody out; nor does what is enforced already.
    RateLimit.objects.filter(name="narrow").update(mode="enforce")
    assert enforce(staff, three[1:2]).status_code == 302
    for action, mode in (("shadow", "shadow"), ("switch_off", "off")):
        chosen = {"action": action, "_selected_action": [limit.pk for limit in three]}
        assert staff.post(LIST, chosen).status_code == 302
        assert set(modes().values()) == {mode}


@pytest.mark.parametrize("page", [LIST, OVERRIDES, f"{LIST}add/"])
def test_the_pages_say_that_nothing_is_enforced(staff, page):
    assert "Nothing is enforced" not in staff.get(page).content.decode()
    with configured(disabled=True):
        assert staff.get(page).content.decode().count("Nothing is enforced") == 1
