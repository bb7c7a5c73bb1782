"""What staff see of the names that code asks for."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.contrib.auth.models import Permission
from django.core import checks
from django.http import HttpResponse
from django.urls import include, path

from apps.ratelimits import deploy_checks, ruleset, used_in_code, wording
from apps.ratelimits.models import RateLimit
from apps.ratelimits.policy.facts import RequestFacts
from apps.ratelimits.policy.matching import compile_ruleset
from apps.ratelimits.storage.ruleset_store import decode, encode
from apps.ratelimits.use import rate_limit

LIST = "/admin/ratelimits/ratelimit/"


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    """Of the names that other tests' modules ask for."""
    kept = {"exports": dict(used_in_code._used["exports"])}
    monkeypatch.setattr(used_in_code, "_used", type(used_in_code._used)(dict, kept))


@rate_limit("exports")
def export(request):
    return HttpResponse("ok")


urlpatterns = [path("shop/export", export), path("", include("iota.urls"))]
pytestmark = pytest.mark.urls(__name__)


@pytest.fixture
def staff(engine, admin_client):
    return admin_client


def wanted(response) -> str:
    found = re.search(r'<section id="wanted".*?</section>', response.content.decode(), re.S)
    return unescape(found[0]) if found else ""


def test_a_name_that_nobody_has_made_is_told_above_the_list_and_made_from_there(staff, client):
    said = wanted(staff.get(LIST))
    assert f"{__name__}.export (rate_limit) at /shop/export" in said
    (link,) = re.findall(r'href="([^"]+)"', said)
    form = staff.get(link)
    assert form.context["adminform"].form.initial["name"] == "exports"
    values = {
        "name": "exports", "mode": "enforce", "path_kind": "named", "path": "/left/over",
        "audience": "everyone", "counted_by": "address", "algorithm": "fixed_window", "quota": "1",
        "window_amount": "1", "window_unit": "3600", "cost": "1", "counts": "every",
        "block_unit": "60", "on_failure": "local",
    }  # fmt: skip
    assert staff.post(link, values).status_code == 302
    made = RateLimit.objects.get()
    assert (made.path_kind, made.path) == ("named", "")
    assert wanted(staff.get(LIST)) == ""
    from apps.ratelimits.engine import get_engine

    get_engine().refresh()
    assert [client.get("/shop/export").status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    ("policy", "said"), [("allow", "pass, uncounted"), ("deny", "503"), ("raise", "error")]
)
def test_it_is_told_what_happens_until_then(staff, settings, policy, said):
    from dataclasses import replace

    settings.IOTA_RATELIMITS = replace(settings.IOTA_RATELIMITS, unknown_limit=policy)
    assert said in wanted(staff.get(LIST))


def test_whoever_may_only_look_gets_no_button(engine, client, django_user_model):
    user = django_user_model.objects.create_user("looks", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_ratelimit"))
    client.force_login(user)
    said = wanted(client.get(LIST))
    assert "exports" in said
    assert "<a " not in said


def test_the_form_says_where_a_limit_is_used(staff):
    used_in_code.note(["exports"], "<script>", "check")
    limit = RateLimit.objects.create(name="exports", quota=1, path_kind="named")
    page = staff.get(f"{LIST}{limit.pk}/change/").content.decode()
    assert f"<li>{__name__}.export (rate_limit) at /shop/export</li>" in page
    assert "<li>&lt;script&gt; (check)</li>" in page
    assert "Workers and commands load other code" in page
    assert "each request is charged once" not in page
    RateLimit.objects.update(path_kind="any")
    assert "each request is charged once" in staff.get(f"{LIST}{limit.pk}/change/").content.decode()
    other = RateLimit.objects.create(name="other", quota=1, path_kind="named")
    page = staff.get(f"{LIST}{other.pk}/change/").content.decode()
    assert "Nowhere that this process knows of" in page


def test_many_places_are_shortened(staff):
    for number in range(30):
        used_in_code.note(["exports"], f"shop.tasks.run_{number:02}", "check")
    assert wanted(staff.get(LIST)).count("(check)") == 2
    assert "28 more" in wanted(staff.get(LIST))
    limit = RateLimit.objects.create(name="exports", quota=1, path_kind="named")
    page = staff.get(f"{LIST}{limit.pk}/change/").content.decode()
    assert page.count("(check)</li>") == 9
    assert "<li>21 more</li>" in page


def test_a_named_limit_is_put_in_words():
    limit = RateLimit(name="exports", quota=10, path_kind="named")
    assert wording.sentence(limit, ()) == (
        "Each address may call 10 times per minute, any method where code asks for this name; the "
        "next request waits."
    )
    assert wording.coverage(limit) == "every method where code asks for this name, per address"


def test_checks_for_deployment_name_what_is_missing(engine):
    (found,) = deploy_checks.check_names(None)
    assert isinstance(found, checks.Warning)
    assert found.msg == (
        f"{__name__}.export (rate_limit) at /shop/export asks for the limit 'exports', which "
        "nobody has made."
    )
    RateLimit.objects.create(name="exports", quota=1, mode="off")
    assert deploy_checks.check_names(None) == []


def test_no_path_leads_to_a_named_limit_and_its_name_does(engine):
    limit = RateLimit.objects.create(
        name="exports", quota=1, path_kind="named", host="example.com", counted_by="view_argument",
        view_argument="pk",
    )  # fmt: skip
    RateLimit.objects.create(name="quiet", quota=1, mode="off")
    loaded = ruleset.load()
    assert decode(encode(loaded)) == loaded
    index = compile_ruleset(loaded)
    facts = RequestFacts(method="GET", path="/", address="203.0.113.1", host="example.com")
    assert index.candidates(facts, 0) == []
    assert index.by_name["exports"].rule.id == limit.pk
    assert (index.off, index.needs_host, index.needs_route) == ({"quiet"}, False, False)


def test_a_ruleset_of_an_older_version_is_understood():
    data = encode(ruleset.rules.Ruleset(7)).replace(b',"off":[]', b"")
    assert b"off" not in data
    assert decode(data).off == ()


def test_names_that_code_makes_up_as_it_runs_are_bounded(monkeypatch):
    monkeypatch.setattr(used_in_code, "MOST_NAMES", 5)
    monkeypatch.setattr(used_in_code, "_unknown", set())
    for number in range(20):
        used_in_code.note([f"made-up-{number}"], "shop.tasks.run", "check")
        used_in_code.note_unknown(f"made-up-{number}")
    assert len(used_in_code._used) == len(used_in_code._unknown) == 5
