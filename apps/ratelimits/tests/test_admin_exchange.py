"""Import and export as staff meet them: a file, what it would do, and the change."""

from __future__ import annotations

import json
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from apps.ratelimits.models import Override, RateLimit, RulesetVersion

from .test_admin import LIST, OVERRIDES
from .test_admin_lockout import configured


@pytest.fixture
def staff(engine, admin_client):
    """Asked, never limited: else what is enforced here would deny the rest of the test."""
    with configured(disabled=True):
        admin_client.get("/healthz")
    return admin_client


def limit(name: str = "one", **changes) -> RateLimit:
    values = {"quota": 100, "path_kind": "prefix", "path": "/api/", **changes}
    return RateLimit.objects.create(name=name, **values)


def upload(client, rows, page: str = LIST, name: str = "limits.json", **more):
    text = rows if isinstance(rows, (str, bytes)) else json.dumps(rows)
    data = text.encode() if isinstance(text, str) else text
    file = SimpleUploadedFile(name, data)
    return client.post(f"{page}import/", {"import_file": file, "resource": "0", **more})


def hidden(response, **changes) -> dict[str, object]:
    """What the page that shows the changes would post."""
    form = response.context["confirm"]
    values = {field.name: field.value() for field in form.hidden_fields()}
    return {**{name: value for name, value in values.items() if value is not None}, **changes}


def confirm(client, response, page: str = LIST, **changes):
    return client.post(f"{page}process_import/", hidden(response, **changes))


def text(response) -> str:
    return " ".join(unescape(response.content.decode()).split())


NEW = {"name": "two", "quota": 7, "path_kind": "prefix", "path": "/api/"}


def test_a_file_is_shown_field_by_field_and_changes_nothing_before_it_is_confirmed(staff, engine):
    limit(quota=100)
    version = RulesetVersion.current()
    shown = upload(staff, [{"name": "one", "quota": 50}, NEW])
    assert shown.status_code == 200
    assert "limits.json: 1 new, 1 changed, 0 unchanged" in text(shown)
    assert "<del>100</del>" in text(shown)
    assert "<ins>50</ins>" in text(shown)
    assert RateLimit.objects.get().quota == 100
    assert RulesetVersion.current() == version

    saved = confirm(staff, shown)
    assert saved.status_code == 302
    assert dict(RateLimit.objects.values_list("name", "quota")) == {"one": 50, "two": 7}
    engine.refresh()
    assert {compiled.rule.name for compiled in engine.index.rules} == {"one", "two"}
    told = text(staff.get(saved.url))
    assert "Imported from limits.json: 1 new, 1 changed, 0 unchanged." in told


def test_who_imported_what_from_where_is_kept(staff):
    one = limit()
    confirm(staff, upload(staff, [{"name": "one", "quota": 50, "mode": "shadow"}, NEW]))
    entry = one.history.first()
    assert entry.history_user.username == "admin"
    assert entry.history_change_reason == "imported from limits.json"
    said = dict(LogEntry.objects.values_list("object_repr", "change_message"))
    assert said["one"] == "Changed quota, mode; imported from limits.json."
    assert LogEntry.objects.get(object_repr="two").action_flag == 1
    # A name may be as long as it likes.
    long = "l" * 120 + ".json"
    confirm(staff, upload(staff, [{"name": "one", "quota": 51}], name=long))
    assert one.history.first().history_change_reason.startswith("imported from lllll")


def test_a_second_import_of_the_same_file_has_nothing_to_do(staff):
    confirm(staff, upload(staff, [NEW]))
    version, entries = RulesetVersion.current(), RateLimit.history.count()
    again = upload(staff, [NEW])
    assert "Nothing to do" in text(again)
    assert "confirm" not in again.context
    assert (RulesetVersion.current(), RateLimit.history.count()) == (version, entries)


def test_limits_that_are_not_in_the_file_are_switched_off_only_where_that_is_ticked(staff):
    limit("old")
    assert "1 new, 0 unchanged" in text(upload(staff, [NEW]))
    shown = upload(staff, [NEW], prune="on")
    assert "1 new, 1 switched off, 0 unchanged" in text(shown)
    confirm(staff, shown)
    assert dict(RateLimit.objects.values_list("name", "mode")) == {"old": "off", "two": "enforce"}
    old = RateLimit.objects.get(name="old").history.first()
    assert old.history_change_reason == "imported from limits.json: not in it"


def test_what_would_lock_its_importer_out_is_told_and_asked(staff):
    shown = upload(staff, [{"name": "tight", "quota": 3, "path_kind": "prefix", "path": "/admin/"}])
    assert "tight: It covers the admin" in text(shown)
    assert "takes 3 requests in a row" in text(shown)
    refused = confirm(staff, shown)
    assert refused.status_code == 200
    assert "Tick below that you mean it" in text(refused)
    assert not RateLimit.objects.exists()
    assert confirm(staff, refused, lock_out="on").status_code == 302
    assert RateLimit.objects.get().name == "tight"


def test_an_override_that_blocks_its_importer_is_asked_for(staff):
    limit("all", path_kind="any", path="", quota=100_000)
    rows = [{"limit": "all", "user": "admin", "action": "blocked"}]
    shown = upload(staff, rows, OVERRIDES, "overrides.json")
    assert "all: It blocks you at" in text(shown)
    assert confirm(staff, shown, OVERRIDES).status_code == 200
    assert not Override.objects.exists()
    assert confirm(staff, shown, OVERRIDES, lock_out="on").status_code == 302
    assert Override.objects.get().user.username == "admin"


def test_what_was_edited_meanwhile_is_shown_once_more(staff):
    one = limit(quota=100)
    shown = upload(staff, [{"name": "one", "quota": 50}])
    one.quota = 70
    one.save()
    again = confirm(staff, shown)
    assert again.status_code == 200
    assert "edited meanwhile: please look once more" in text(again)
    assert "<del>70</del>" in text(again)
    assert RateLimit.objects.get().quota == 70
    assert confirm(staff, again).status_code == 302
    assert RateLimit.objects.get().quota == 50


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"name": "one", "qouta": 5}], "Row 1 (one), 'qouta': There is no such field. Did you"),
        ([NEW, {"name": "one", "quota": "many"}], "Row 2 (one), quota: 'many' is no whole number"),
        ([{"name": "one", "quota": 5, "cost": 9}], "Row 1 (one), quota: a request costs 9"),
        ([{"name": "No slug", "quota": 5}], "name: Use 1 to 64 lower-case letters"),
        ([{"name": "one"}], "quota: This field cannot be null"),
        ([{"name": "one", "quota": 5, "groups": ["g"]}], "groups: No group is called 'g'"),
        ([{"name": "one", "quota": 5, "window_unit": 60}], "window_unit: 60 is none of seconds"),
        ([NEW, NEW], "Row 2 (two): Row 1 is about the same"),
        ([{"quota": 5}], "this is no file of rate limits"),
        ("- name: one\n  name: two\n", "is there twice in a row"),
        ("[1, 2", "this is no JSON"),
        (b"name,quota\nl\xe9,5\n", "is no UTF-8"),
        ("[]", "No valid data to import"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_is_refused_with_row_and_field(staff, rows, said):
    is_text = isinstance(rows, (str, bytes))
    name = "limits.yaml" if is_text and "name" in str(rows)[:8] else "limits"
    shown = upload(staff, rows, name=name)
    assert said in text(shown).replace("<strong>", "").replace("</strong>", "")
    assert "confirm" not in shown.context
    assert not RateLimit.objects.exists()


def test_a_refused_row_refuses_the_file_also_where_it_became_wrong_after_it_was_shown(staff):
    shown = upload(staff, [{**NEW, "cost": 5}])
    Override.objects.create(network="10.0.0.0/8", action="quota", quota=2)
    refused = confirm(staff, shown)
    assert "cannot be imported" in text(refused)
    assert "With the override" in text(refused)
    assert not RateLimit.objects.exists()


def test_only_what_this_site_has_shown_within_the_hour_is_imported(staff):
    shown = upload(staff, [NEW])
    token = hidden(shown)["import_file_name"]
    for forged in (token[:-1] + ("A" if token[-1] != "A" else "B"), "/etc/passwd", ""):
        answer = confirm(staff, shown, import_file_name=forged)
        assert (answer.status_code, answer.url) == (302, f"{LIST}import/")
    assert not RateLimit.objects.exists()
    assert confirm(staff, shown, format="7").status_code == 302
    assert staff.get(f"{LIST}process_import/").status_code == 405


def test_a_file_that_is_too_large_is_refused_before_it_is_read(staff):
    shown = upload(staff, b" " * 1_000_001)
    assert "1,000,001 bytes, this page takes 1,000,000" in text(shown)


@pytest.mark.parametrize("kind", ["yaml", "json", "csv"])
def test_what_is_exported_is_imported_as_it_was(staff, kind):
    limit("one", message="=1+1")
    number = ["yaml", "json", "csv"].index(kind)
    exported = staff.post(f"{LIST}export/", {"format": str(number), "resource": "0"})
    assert exported.headers["Content-Disposition"] == f'attachment; filename="rate-limits.{kind}"'
    same = upload(staff, exported.content, name=f"limits.{kind}")
    assert "1 unchanged" in text(same)
    RateLimit.objects.all().delete()
    confirm(staff, upload(staff, exported.content, name=f"limits.{kind}"))
    assert RateLimit.objects.get().message == "=1+1"
    again = staff.post(f"{LIST}export/", {"format": str(number), "resource": "0"})
    assert again.content == exported.content


def test_only_what_the_list_shows_is_exported(staff):
    limit("one")
    limit("two", mode="off")
    exported = staff.post(f"{LIST}export/?mode__exact=off", {"format": "1", "resource": "0"})
    assert [row["name"] for row in json.loads(exported.content)] == ["two"]


@pytest.mark.parametrize("page", [LIST, OVERRIDES])
@pytest.mark.parametrize(
    ("permissions", "may_export", "may_import"),
    [
        ((), False, False),
        (("view",), True, False),
        (("view", "add"), True, False),
        (("view", "change"), True, False),
        (("view", "add", "change"), True, False),
        (("view", "add", "change", "publish"), True, True),
    ],
)
def test_export_needs_view_and_import_is_a_publishers(
    engine, page, permissions, may_export, may_import
):
    model = page.strip("/").rpartition("/")[2]
    user = User.objects.create_user("ada", is_staff=True)
    codes = [f"{permission}_{model}" for permission in permissions if permission != "publish"]
    codes += ["publish_ratelimit"] if "publish" in permissions else []
    user.user_permissions.set(Permission.objects.filter(codename__in=codes))
    client = Client()
    client.force_login(user)
    assert (client.get(f"{page}export/").status_code == 200) is may_export
    assert (client.get(f"{page}import/").status_code == 200) is may_import
    assert (upload(client, [NEW], page).status_code == 200) is may_import
    assert client.post(f"{page}process_import/").status_code == (302 if may_import else 403)
    if permissions:
        listed = client.get(page)
        assert (f"{page}export/" in text(listed)) is may_export
        assert (f"{page}import/" in text(listed)) is may_import
