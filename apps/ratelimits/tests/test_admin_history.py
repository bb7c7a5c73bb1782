"""The history's pages: what changed, by whom, why; and the way back, shown before it is gone."""

from __future__ import annotations

from datetime import timedelta
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.utils import timezone

from apps.ratelimits import modes
from apps.ratelimits.groups import EDITORS, VIEWERS
from apps.ratelimits.models import Override, RateLimit

from .test_admin import LIST, OVERRIDES
from .test_admin_lockout import configured

API = {"path_kind": "prefix", "path": "/api/"}
EDITS = f"{LIST}edits/"


@pytest.fixture
def staff(engine, admin_client):
    """Asked, never limited."""
    with configured(disabled=True):
        admin_client.get("/healthz")
    return admin_client


@pytest.fixture
def limit(engine) -> RateLimit:
    ada = User.objects.create_user("ada")
    made = RateLimit(name="one", quota=5, mode="shadow", **API)
    made._history_user, made._change_reason = ada, "Scrapers"
    made.save()
    made.quota, made.mode = 50, "enforce"
    made._change_reason = "Nobody was denied"
    made.save()
    del made._history_user, made._change_reason
    return made


def back(limit, entry=-1) -> str:
    entries = list(limit.history.model.objects.filter(id=limit.pk))
    model = "override" if isinstance(limit, Override) else "ratelimit"
    return f"/admin/ratelimits/{model}/{limit.pk}/history/{entries[entry].pk}/"


def as_member(client, group: str):
    user = User.objects.create_user("eve", is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client.force_login(user)
    return client


def text(response) -> str:
    return " ".join(unescape(response.content.decode()).split())


def told(response) -> str:
    """What the form of the page says that it was made for."""
    return str(response.context["planned"].newest)


def test_each_entry_says_when_who_why_and_what(staff, limit):
    page = staff.get(f"{LIST}{limit.pk}/history/")
    edited, made = page.context["lines"]
    assert (edited.verb, edited.who, edited.reason) == ("edited", "ada", "Nobody was denied")
    assert [(d.label, d.before, d.after) for d in edited.differences] == [
        ("quota", "5", "50"),
        ("mode", "Shadow", "Enforce"),
    ]
    assert made.sentence.startswith("Shadow, which never blocks; enforced it would say: Each")
    content = page.content.decode()
    assert '<time datetime="' in content
    assert "just now" in content
    # The state that is there already is none to go back to.
    assert (edited.back, made.back) == ("", back(limit))


def test_a_command_and_somebody_unknown_are_told_apart(staff, limit):
    User.objects.filter(username="ada").delete()
    modes.set_modes({"one": "off"}, why="locked out")
    lines = staff.get(f"{LIST}{limit.pk}/history/").context["lines"]
    assert [line.who for line in lines][:2] == ["a command on the server", "nobody known"]
    assert lines[0].reason == "manage.py ratelimit disable: was enforce. locked out"


def test_one_persons_edits_are_filtered_and_still_compared_with_what_was_before(staff, limit):
    limit.quota = 60
    limit._history_user = User.objects.get(username="admin")
    limit.save()
    admin = User.objects.get(username="admin").pk
    page = staff.get(f"{LIST}{limit.pk}/history/", {"who": admin})
    (line,) = page.context["lines"]
    assert [(d.before, d.after) for d in line.differences] == [("50", "60")]
    for strange in ("999999", "x", ""):
        lines = staff.get(f"{LIST}{limit.pk}/history/", {"who": strange}).context["lines"]
        assert len(lines) == 3


def test_a_long_history_is_paged(staff, limit, django_assert_max_num_queries):
    for quota in range(100, 145):
        limit.quota = quota
        limit.save()
    with django_assert_max_num_queries(25):
        page = staff.get(f"{LIST}{limit.pk}/history/", {"p": "2"})
    assert len(page.context["lines"]) == 20
    assert page.context["lines"][0].differences[0].after == "124"
    assert "Page 2 of 3" in text(page)


@pytest.mark.parametrize("path", ["9999/history/", "x/history/", "9999/history/1/", "1/history/x/"])
def test_what_is_not_there_is_404(staff, path):
    RateLimit.objects.create(pk=1, name="one", quota=5)
    assert staff.get(LIST + path).status_code == 404


def test_going_back_shows_first_what_it_will_do(staff, limit):
    page = staff.get(back(limit))
    said = text(page)
    assert (
        "Shadow, which never blocks; enforced it would say: Each address may call 5 times" in said
    )
    assert "Now: Each address may call 50 times per minute" in said
    assert [(d.before, d.after) for d in page.context["planned"].differences] == [
        ("50", "5"),
        ("Enforce", "Shadow"),
    ]
    limit.refresh_from_db()
    assert limit.quota == 50


def test_going_back_is_a_change_of_ones_own(staff, limit, engine):
    data = {"told": told(staff.get(back(limit))), "reason": "too lax"}
    response = staff.post(back(limit), data)
    assert response.headers["Location"] == f"{LIST}{limit.pk}/change/"
    limit.refresh_from_db()
    assert (limit.quota, limit.mode) == (5, "shadow")
    entry = limit.history.first()
    assert entry.history_user.username == "admin"
    assert entry.history_change_reason.endswith(": too lax")
    assert LogEntry.objects.get().change_message.startswith("Rolled back to the change of ")
    engine.refresh()
    assert engine.index.rules[0].rule.rate.quota == 5


def test_an_edit_meanwhile_is_looked_at_first(staff, limit):
    data = {"told": told(staff.get(back(limit)))}
    limit.quota = 70
    limit.save()
    page = staff.post(back(limit), data)
    assert "It was edited meanwhile: please look once more." in text(page)
    limit.refresh_from_db()
    assert limit.quota == 70
    assert staff.post(back(limit), {"told": told(page)}).status_code == 302


def test_nothing_to_go_back_to_is_said(staff, limit):
    page = staff.get(back(limit, 0))
    assert "Nothing differs from what it is now." in text(page)
    assert 'method="post" class' not in page.content.decode()
    assert not page.context["offers"]


def test_what_can_no_longer_be_is_said_field_by_field(staff, limit):
    RateLimit.objects.filter(pk=limit.pk).update(name="renamed")
    RateLimit.objects.create(name="one", quota=1)
    page = staff.get(back(limit))
    assert "It cannot be done" in text(page)
    assert "Name: Rate limit with this Name already exists." in text(page)
    assert not page.context["offers"]
    assert staff.post(back(limit), {"told": told(page)}).status_code == 200
    assert RateLimit.objects.get(pk=limit.pk).name == "renamed"


def test_going_back_to_what_locks_one_out_is_asked_for(staff, limit):
    RateLimit.objects.filter(pk=limit.pk).delete()
    tight = RateLimit.objects.create(name="tight", quota=5, path_kind="prefix", path="/admin/")
    tight.quota = 1000
    tight.save()
    page = staff.get(back(tight))
    assert "takes 5 requests in a row, where a few pages need 20" in text(page)
    assert "Tick that you mean it" in text(staff.post(back(tight), {"told": told(page)}))
    tight.refresh_from_db()
    assert tight.quota == 1000
    ticked = {"told": told(page), "lock_out": "on"}
    assert staff.post(back(tight), ticked).status_code == 302
    tight.refresh_from_db()
    assert tight.quota == 5


def test_an_override_that_blocks_oneself_is_asked_for_alike(staff):
    RateLimit.objects.create(name="site", quota=1000, path_kind="prefix", path="/admin/")
    override = Override.objects.create(network="127.0.0.0/8", action="blocked")
    override.action = "unlimited"
    override.save()
    page = staff.get(back(override))
    assert "It blocks you" in text(page)
    assert [(d.label, d.before, d.after) for d in page.context["planned"].differences] == [
        ("action", "Unlimited", "Blocked")
    ]
    assert staff.post(back(override), {"told": told(page)}).status_code == 200
    assert Override.objects.get().action == "unlimited"


def test_a_deleted_limit_comes_back_from_the_list_of_edits(staff, limit, engine):
    pk = limit.pk
    limit.delete()
    page = staff.get(EDITS, {"kind": "deleted"})
    (line,) = page.context["lines"]
    assert (line.name, line.verb) == ("one", "deleted")
    asked = staff.get(line.back)
    assert "It comes back under its old number, with its history" in text(asked)
    assert staff.post(line.back, {"told": told(asked)}).status_code == 302
    found = RateLimit.objects.get()
    assert (found.pk, found.quota, found.epoch) == (pk, 50, 1)
    assert staff.get(EDITS, {"kind": "deleted"}).context["lines"] == []
    engine.refresh()
    assert [compiled.rule.name for compiled in engine.index.rules] == ["one"]


def test_a_deleted_ones_history_can_be_read(staff, limit):
    url = f"{LIST}{limit.pk}/history/"
    limit.delete()
    page = staff.get(url)
    assert "one is deleted." in text(page)
    assert [line.verb for line in page.context["lines"]] == ["deleted", "edited", "made"]
    assert all(line.back for line in page.context["lines"])


def test_an_override_whose_person_is_gone_has_a_history_all_the_same(staff):
    ada = User.objects.create_user("ada")
    override = Override.objects.create(user=ada, action="blocked")
    pk = override.pk
    ada.delete()
    page = staff.get(f"{OVERRIDES}{pk}/history/")
    assert page.status_code == 200
    asked = staff.get(page.context["lines"][0].back)
    assert "It cannot be done" in text(asked)


def test_a_viewer_sees_it_all_and_changes_nothing(client, limit):
    as_member(client, VIEWERS)
    assert client.get(f"{LIST}{limit.pk}/history/").status_code == 200
    page = client.get(back(limit))
    assert page.status_code == 200
    assert not page.context["offers"]
    # The library's own page of an entry saved what any viewer posted to it.
    data = {"told": told(page), "name": "one", "quota": "1"}
    assert client.post(back(limit), data).status_code == 403
    limit.refresh_from_db()
    assert limit.quota == 50


def test_an_editor_goes_back_where_neither_state_is_in_force(client, limit):
    as_member(client, EDITORS)
    page = client.get(back(limit))
    assert "It is in force. Only with the right" in text(page)
    assert client.post(back(limit), {"told": told(page)}).status_code == 200
    limit.refresh_from_db()
    assert limit.mode == "enforce"
    # Nor to what was in force.
    limit.mode = "off"
    limit.save()
    page = client.get(back(limit, 1))
    assert "It would be in force. Only with the right" in text(page)
    assert client.post(back(limit, 1), {"told": told(page)}).status_code == 200
    page = client.get(back(limit))
    assert client.post(back(limit), {"told": told(page)}).status_code == 302
    limit.refresh_from_db()
    assert (limit.mode, limit.quota) == ("shadow", 5)


def test_bringing_back_takes_the_right_to_add(client, limit):
    pk, url = limit.pk, back(limit)
    limit.delete()
    as_member(client, EDITORS)
    Group.objects.get(name=EDITORS).permissions.remove(
        Permission.objects.get(codename="add_ratelimit")
    )
    page = client.get(url)
    assert not page.context["offers"]
    assert client.post(url, {"told": told(page)}).status_code == 403
    assert not RateLimit.objects.filter(pk=pk).exists()


def test_a_reason_that_is_required_is_asked_for(staff, limit):
    with configured(disabled=True, reason_required=True):
        page = staff.get(back(limit))
        assert "required" in page.content.decode()
        assert "Say why" in text(staff.post(back(limit), {"told": told(page)}))
        limit.refresh_from_db()
        assert limit.quota == 50
        data = {"told": told(page), "reason": "Because"}
        assert staff.post(back(limit), data).status_code == 302


def test_recent_edits_are_of_both_kinds_in_one_order(staff, limit):
    override = Override.objects.create(network="192.0.2.0/24", action="blocked")
    limit.quota = 51
    limit.save()
    lines = staff.get(EDITS).context["lines"]
    assert [(line.name, line.verb) for line in lines] == [
        ("one", "edited"),
        (f"override {override.pk}", "made"),
        ("one", "edited"),
        ("one", "made"),
    ]
    for kind, number in (("limits", 3), ("overrides", 1), ("deleted", 0), ("nonsense", 4)):
        assert len(staff.get(EDITS, {"kind": kind}).context["lines"]) == number
    ada = User.objects.get(username="ada").pk
    assert len(staff.get(EDITS, {"who": ada}).context["lines"]) == 2


def test_overrides_are_for_whoever_may_see_them(client, limit):
    Override.objects.create(network="192.0.2.0/24", action="blocked")
    as_member(client, VIEWERS)
    Group.objects.get(name=VIEWERS).permissions.remove(
        Permission.objects.get(codename="view_override")
    )
    assert {line.name for line in client.get(EDITS).context["lines"]} == {"one"}
    assert client.get(EDITS, {"kind": "overrides"}).status_code == 403


def test_recent_edits_are_useful_while_empty_and_bounded_when_many(staff):
    assert "Nothing was edited yet." in text(staff.get(EDITS))
    history = RateLimit.history.model
    then = timezone.now() - timedelta(days=9)
    history.objects.bulk_create(
        history(id=n, name=f"n{n}", quota=1, history_date=then, history_type="-",
                created_at=then, updated_at=then)
        for n in range(1, 500)
    )  # fmt: skip
    page = staff.get(EDITS, {"p": "999"})
    assert len(page.context["lines"]) == 19
    assert "Page 25 of 25" in text(page)
