"""Editors at the pages: what is not theirs is shown, said, and refused on the server."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User

from apps.ratelimits import used_in_code
from apps.ratelimits.groups import EDITORS, PUBLISHERS
from apps.ratelimits.models import Override, RateLimit

from .test_admin import LIST, OVERRIDES, errors, form
from .test_admin_lockout import configured

API = {"path_kind": "prefix", "path": "/api/"}


@pytest.fixture
def limits(engine) -> dict[str, RateLimit]:
    """By mode; asked, never limited."""
    return {
        mode: RateLimit.objects.create(name=mode, quota=5, mode=mode, **API)
        for mode in ("enforce", "shadow", "off")
    }


def signed_in(client, group: str):
    user = User.objects.create_user("ada", is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client.force_login(user)
    return client


@pytest.fixture
def editor(limits, client):
    return signed_in(client, EDITORS)


@pytest.fixture
def publisher(limits, client):
    return signed_in(client, PUBLISHERS)


def modes() -> dict[str, str]:
    return dict(RateLimit.objects.values_list("name", "mode"))


BEFORE = {mode: mode for mode in ("enforce", "shadow", "off")}
ONLY = "Only with the right"


def test_the_form_says_which_modes_are_not_theirs_before_anything_is_typed(editor, limits):
    for url in (f"{LIST}add/", f"{LIST}{limits['shadow'].pk}/change/"):
        page = editor.get(url)
        field = page.context["adminform"].form["mode"]
        options = {option.data["value"]: option.data["attrs"] for option in field.subwidgets}
        assert options["enforce"]["disabled"] is True
        assert "disabled" not in options["shadow"]
        assert "Enforce: only with the right" in field.help_text
        assert '<option value="shadow" selected>' in page.content.decode()


def test_a_publisher_is_told_nothing_of_the_kind(publisher, limits):
    field = publisher.get(f"{LIST}add/").context["adminform"].form["mode"]
    assert "only with" not in field.help_text
    assert not any("disabled" in option.data["attrs"] for option in field.subwidgets)


def test_an_editor_makes_and_edits_what_is_not_enforced(editor, limits):
    assert editor.post(f"{LIST}add/", form(mode="shadow")).status_code == 302
    url = f"{LIST}{limits['off'].pk}/change/"
    assert editor.post(url, form(name="off", mode="shadow", quota="7")).status_code == 302
    assert modes() == {**BEFORE, "one": "shadow", "off": "shadow"}


@pytest.mark.parametrize("url", ["add/", "{shadow}/change/", "{off}/change/"])
def test_an_editor_who_posts_enforce_is_refused_in_the_form(editor, limits, url):
    url = url.format(**{mode: limit.pk for mode, limit in limits.items()})
    response = editor.post(f"{LIST}{url}", form(mode="enforce"))
    assert response.status_code == 200
    assert ONLY in errors(response)["mode"][0]
    assert modes() == BEFORE


def test_what_is_in_force_is_read_only_and_says_why(editor, limits):
    url = f"{LIST}{limits['enforce'].pk}/change/"
    page = editor.get(url)
    assert page.status_code == 200
    content = page.content.decode()
    assert "This is in force, and shown read only." in content
    assert 'name="quota"' not in content
    # Nothing asks for a sentence of a form that is not there.
    assert page.context["sentence_url"] == ""
    assert "field-change_reason" not in content


def test_what_has_come_into_force_meanwhile_is_said_and_not_a_bare_refusal(editor, limits):
    url = f"{LIST}{limits['enforce'].pk}/change/"
    answer = editor.post(url, form(name="enforce", mode="off", quota="9"), follow=True)
    assert answer.redirect_chain == [(url, 302)]
    assert "Not saved: it has come into force meanwhile." in answer.content.decode()
    assert modes() == BEFORE
    assert RateLimit.objects.get(name="enforce").quota == 5


def run(client, action: str, *limits: RateLimit, **more: str):
    chosen = {"action": action, "_selected_action": [limit.pk for limit in limits], **more}
    return client.post(LIST, chosen, follow=True).content.decode()


def test_actions_leave_what_is_in_force(editor, limits):
    said = run(editor, "switch_off", *limits.values())
    assert "enforce was left, being in force. Only with the right" in said
    assert modes() == {**BEFORE, "shadow": "off"}
    run(editor, "shadow", *limits.values())
    assert modes() == {"enforce": "enforce", "shadow": "shadow", "off": "shadow"}


def test_the_action_that_enforces_is_not_offered_and_does_nothing(editor, limits):
    assert "Enforce selected limits" not in editor.get(LIST).content.decode()
    run(editor, "enforce", *limits.values(), confirmed="all")
    assert modes() == BEFORE


def test_deleting_what_is_in_force_is_refused_alone_and_among_others(editor, limits):
    url = f"{LIST}{limits['enforce'].pk}/delete/"
    assert editor.post(url, {"post": "yes"}).status_code == 403
    said = run(editor, "delete_selected", *limits.values())
    assert "In force, or asked for by code, and not yours to delete: enforce." in said
    run(editor, "delete_selected", *limits.values(), post="yes")
    assert modes() == BEFORE
    assert editor.post(f"{LIST}{limits['off'].pk}/delete/", {"post": "yes"}).status_code == 302
    assert set(modes()) == {"enforce", "shadow"}


def exception(**changes) -> dict[str, object]:
    return {"network": "192.0.2.0/24", "action": "blocked", "limit": "", **changes}


@pytest.mark.parametrize("of", ["enforce", ""])
def test_an_override_of_what_is_in_force_is_refused_in_the_form(editor, limits, of):
    limit = limits[of].pk if of else ""
    help_text = editor.get(f"{OVERRIDES}add/").context["adminform"].form["limit"].help_text
    assert "Any other, or every limit: only with the right" in help_text
    response = editor.post(f"{OVERRIDES}add/", exception(limit=limit))
    assert ONLY in errors(response)["limit"][0]
    assert not Override.objects.exists()


def test_an_override_stays_where_it_is_an_editors(editor, limits):
    assert editor.post(f"{OVERRIDES}add/", exception(limit=limits["off"].pk)).status_code == 302
    override = Override.objects.get()
    url = f"{OVERRIDES}{override.pk}/change/"
    moved = editor.post(url, exception(limit=limits["enforce"].pk))
    assert ONLY in errors(moved)["limit"][0]
    assert Override.objects.get().limit == limits["off"]
    # One that is in force is shown and not deleted.
    Override.objects.update(limit=limits["enforce"])
    assert "shown read only" in editor.get(url).content.decode()
    assert editor.post(f"{OVERRIDES}{override.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Override.objects.exists()


def test_a_limit_takes_no_override_with_it_that_is_not_theirs(editor, limits):
    Group.objects.get(name=EDITORS).permissions.remove(
        Permission.objects.get(codename="delete_override")
    )
    Override.objects.create(limit=limits["off"], network="192.0.2.0/24", action="blocked")
    assert editor.post(f"{LIST}{limits['off'].pk}/delete/", {"post": "yes"}).status_code == 403
    assert modes() == BEFORE


def test_a_publisher_may_all_of_it(publisher, limits):
    url = f"{LIST}{limits['enforce'].pk}/change/"
    assert publisher.post(url, form(name="enforce", quota="9")).status_code == 302
    assert publisher.post(f"{OVERRIDES}add/", exception()).status_code == 302
    run(publisher, "enforce", limits["off"])
    assert modes() == {**BEFORE, "off": "enforce"}
    assert publisher.post(f"{LIST}{limits['off'].pk}/delete/", {"post": "yes"}).status_code == 302


def reason_of(model, pk: int) -> str | None:
    return model.history.filter(id=pk).first().history_change_reason


def test_the_reason_is_kept_with_the_change(publisher, limits):
    limit = limits["enforce"]
    values = form(name="enforce", quota="9", change_reason="Partners  complain")
    assert publisher.post(f"{LIST}{limit.pk}/change/", values).status_code == 302
    assert reason_of(RateLimit, limit.pk) == "Partners  complain"
    run(publisher, "switch_off", limit, limits["shadow"], reason="  Quiet   night ")
    assert reason_of(RateLimit, limit.pk) == "Quiet night"
    assert reason_of(RateLimit, limits["shadow"].pk) == "Quiet night"
    publisher.post(f"{LIST}{limit.pk}/delete/", {"post": "yes", "reason": "Not needed"})
    entry = RateLimit.history.filter(id=limit.pk).first()
    assert (entry.history_type, entry.history_change_reason) == ("-", "Not needed")
    assert entry.history_user.username == "ada"
    run(publisher, "delete_selected", limits["off"], post="yes", reason="Nor this")
    assert reason_of(RateLimit, limits["off"].pk) == "Nor this"


def test_an_overrides_own_reason_is_that_of_its_making(publisher, limits):
    publisher.post(f"{OVERRIDES}add/", exception(reason="Attack of Tuesday"))
    override = Override.objects.get()
    assert reason_of(Override, override.pk) == "Attack of Tuesday"
    url = f"{OVERRIDES}{override.pk}/change/"
    publisher.post(url, exception(reason="Attack of Tuesday", change_reason="Goes on"))
    assert reason_of(Override, override.pk) == "Goes on"


def test_a_reason_is_bounded(publisher, limits):
    values = form(mode="shadow", change_reason="x" * 201)
    assert "at most 200" in errors(publisher.post(f"{LIST}add/", values))["change_reason"][0]
    run(publisher, "shadow", limits["off"], reason="x" * 500)
    assert reason_of(RateLimit, limits["off"].pk) in (None, "x" * 200)


@pytest.fixture
def required():
    with configured(disabled=True, reason_required=True):
        yield


def test_where_it_is_required_nothing_in_force_changes_without(publisher, limits, required):
    limit = limits["enforce"]
    url = f"{LIST}{limit.pk}/change/"
    for mode in ("enforce", "shadow"):
        response = publisher.post(url, form(name="enforce", mode=mode))
        assert errors(response) == {"change_reason": ["Say why: this changes what is enforced."]}
    assert "change_reason" in errors(publisher.post(f"{LIST}add/", form()))
    assert "reason" in errors(publisher.post(f"{OVERRIDES}add/", exception()))
    for action in ("shadow", "delete_selected"):
        assert "Nothing was changed. Say why" in run(publisher, action, limit, post="yes")
    assert "Nothing was changed. Say why" in run(publisher, "enforce", limits["off"])
    delete = f"{LIST}{limit.pk}/delete/"
    assert "Say why" in publisher.post(delete, {"post": "yes"}, follow=True).content.decode()
    assert modes() == BEFORE
    assert publisher.post(url, form(name="enforce", change_reason="Because")).status_code == 302
    run(publisher, "enforce", limits["off"], reason="Because")
    assert modes() == {**BEFORE, "off": "enforce"}


def test_where_it_is_required_what_is_not_in_force_needs_none(publisher, limits, required):
    assert publisher.post(f"{LIST}add/", form(mode="shadow")).status_code == 302
    run(publisher, "switch_off", limits["shadow"])
    assert modes()["shadow"] == "off"


def test_groups_in_the_form_are_one_entry(publisher, limits):
    group = Group.objects.create(name="beta")
    values = form(name="shadow", mode="shadow", groups=[group.pk])
    publisher.post(f"{LIST}{limits['shadow'].pk}/change/", values)
    newest, *older = limits["shadow"].history.all()
    assert [row.group for row in newest.groups.all()] == [group]
    assert len(older) == 1


@pytest.fixture
def asked_for(limits, monkeypatch):
    """A limit that denies nobody, and code that asks for it."""
    monkeypatch.setitem(used_in_code._used, "shadow", {("shop.views.buy", "rate_limit"): None})
    return limits["shadow"]


@pytest.mark.parametrize(("unknown", "status"), [("deny", 403), ("raise", 403), ("allow", 302)])
def test_what_code_asks_for_is_not_an_editors_to_delete_where_that_would_deny(
    editor, asked_for, unknown, status
):
    with configured(unknown_limit=unknown, disabled=True):
        answer = editor.post(f"{LIST}{asked_for.pk}/delete/", {"post": "yes"})
    assert answer.status_code == status
    assert ("shadow" in modes()) == (status == 403)


def test_nor_to_rename_while_all_else_of_it_is(editor, asked_for):
    url = f"{LIST}{asked_for.pk}/change/"
    values = form(name="shadow", mode="shadow", quota="9", **API)
    with configured(unknown_limit="deny", disabled=True):
        said = errors(editor.post(url, {**values, "name": "other"}))
        assert "asks for this limit by its name" in said["name"][0]
        assert editor.post(url, values).status_code == 302
    assert RateLimit.objects.get(name="shadow").quota == 9


def test_a_publisher_may_rename_it(publisher, asked_for):
    url = f"{LIST}{asked_for.pk}/change/"
    with configured(unknown_limit="deny", disabled=True):
        answer = publisher.post(url, form(name="other", mode="shadow", **API))
    assert answer.status_code == 302
    assert "other" in modes()


def test_nor_to_roll_back_to_another_name(editor, asked_for):
    asked_for.name = "other"
    asked_for.save()
    asked_for.name = "shadow"
    asked_for.save()
    newest, renamed, first = asked_for.history.all()
    assert [one.name for one in (newest, renamed, first)] == ["shadow", "other", "shadow"]
    url = f"{LIST}{asked_for.pk}/history/{renamed.history_id}/"
    with configured(unknown_limit="deny", disabled=True):
        page = editor.get(url)
        assert "asks for this limit by its name" in page.content.decode()
        editor.post(url, {"told": str(newest.history_id), "reason": "Back"})
    assert "shadow" in modes()
