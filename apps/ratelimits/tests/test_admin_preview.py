"""Preview beside Save: tried and told, and nothing saved."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from apps.ratelimits import previewing
from apps.ratelimits.engine import get_engine
from apps.ratelimits.models import PreviewRun, RateLimit

ADD = "/admin/ratelimits/ratelimit/add/preview/"
FORM = {
    "name": "tried",
    "mode": "enforce",
    "path_kind": "prefix",
    "path": "/nowhere/",
    "audience": "everyone",
    "counted_by": ["address"],
    "algorithm": "fixed_window",
    "quota": "2",
    "window_amount": "1",
    "window_unit": "86400",
    "cost": "1",
    "lease": "0",
    "counts": "every",
    "block_unit": "60",
    "on_failure": "local",
    "_preview": "Preview",
}
ALONE = {"x-preview": "panel"}


@pytest.fixture
def staff(client, engine):
    client.force_login(User.objects.create_superuser("staff"))
    engine.refresh()
    return client


def visit(client, times: int = 5) -> None:
    for _ in range(times):
        client.get("/nowhere/x", REMOTE_ADDR="203.0.113.9")
    get_engine().flush_traffic()


def test_the_panel_says_how_many_and_nothing_is_saved(staff):
    visit(staff)
    page = staff.post(ADD, FORM)
    text = page.content.decode()
    assert "Would have denied 3 of 5 requests, 1 of 1 client." in text
    assert 'name="quota" value="2"' in text
    assert 'action="/admin/ratelimits/ratelimit/add/"' in text
    assert "Each address may call 2 times per day" in text
    assert not RateLimit.objects.exists()


def test_beside_it_stands_the_limit_as_it_is(staff):
    limit = RateLimit(name="tried", quota=4, path_kind="prefix", path="/nowhere/", mode="shadow",
                      algorithm="fixed_window", window_unit=86_400)  # fmt: skip
    limit.save()
    visit(staff)
    url = reverse("admin:ratelimits_preview", args=(limit.pk,))
    text = staff.post(url, FORM, headers=ALONE).content.decode()
    assert "Would have denied 3 of 5 requests" in text
    assert "As it is stored (were it enforced): 1 of 5 requests, 1 of 1 client." in text
    assert "<html" not in text
    limit.refresh_from_db()
    assert (limit.quota, limit.mode) == (4, "shadow")
    assert limit.history.count() == 1


def test_errors_are_shown_as_the_form_shows_them(staff):
    visit(staff)
    wrong = {**FORM, "path": "nowhere", "quota": ""}
    page = staff.post(ADD, wrong)
    text = page.content.decode()
    assert page.status_code == 200
    assert "must begin with" in text
    assert "This field is required" in text
    assert 'class="pv"' not in text
    assert staff.post(ADD, wrong, headers=ALONE).status_code == 422


def test_what_would_lock_out_is_tried_all_the_same(staff):
    staff.get("/admin/")
    get_engine().flush_traffic()
    form = {**FORM, "path": "/admin/", "quota": "1"}
    text = staff.post(ADD, form, headers=ALONE).content.decode()
    assert "Would have denied" in text


def test_a_record_that_is_empty_says_how_it_is_filled(staff):
    text = staff.post(ADD, FORM, headers=ALONE).content.decode()
    assert "No request has been recorded yet" in text
    assert "kept for 60 minutes" in text


def test_a_record_that_is_off_says_so(staff, settings):
    settings.IOTA_RATELIMITS = replace(settings.IOTA_RATELIMITS, traffic_records=0)
    text = staff.post(ADD, FORM, headers=ALONE).content.decode()
    assert "IOTA_TRAFFIC_RECORDS is 0" in text


def test_redis_away_is_said(staff, redis_server, settings, monkeypatch):
    from apps.ratelimits.storage.errors import Unavailable

    def away():
        raise Unavailable("away")

    monkeypatch.setattr(previewing, "recorded", away)
    assert "Redis does not answer" in staff.post(ADD, FORM, headers=ALONE).content.decode()


def test_save_saves_from_the_previews_page_too(staff):
    """The theme's script sends the form to the page's own address."""
    form = {**FORM, "_continue": "1"}
    del form["_preview"]
    answer = staff.post(ADD, form)
    made = RateLimit.objects.get()
    assert answer["Location"] == f"/admin/ratelimits/ratelimit/{made.pk}/change/"
    again = staff.post(reverse("admin:ratelimits_preview", args=(made.pk,)), {**form, "quota": "9"})
    assert again["Location"] == f"/admin/ratelimits/ratelimit/{made.pk}/change/"
    assert RateLimit.objects.get().quota == 9
    assert staff.get(ADD)["Location"] == "/admin/ratelimits/ratelimit/add/"
    assert staff.post("/admin/ratelimits/ratelimit/999/preview/", form).status_code == 404


@pytest.mark.parametrize(
    ("permissions", "add", "change"),
    [
        ((), 403, 403),
        (("view_ratelimit",), 403, 403),
        (("add_ratelimit",), 200, 403),
        (("view_ratelimit", "change_ratelimit"), 403, 200),
    ],
)
def test_who_may_save_may_try(client, engine, permissions, add, change):
    user = User.objects.create(username="u", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    limit = RateLimit.objects.create(name="other", quota=1, mode="off")
    url = reverse("admin:ratelimits_preview", args=(limit.pk,))
    # What may be enforced is a publisher's to choose.
    theirs = {**FORM, "mode": "shadow"}
    assert client.post(ADD, theirs, headers=ALONE).status_code == add
    assert client.post(url, theirs, headers=ALONE).status_code == change
    form = client.get(f"/admin/ratelimits/ratelimit/{limit.pk}/change/").content.decode()
    assert ('value="Preview"' in form) is (change == 200)


def test_a_long_record_waits_for_a_worker_and_can_be_stopped(staff, monkeypatch):
    visit(staff)
    monkeypatch.setattr(previewing, "DIRECT", 2)
    text = staff.post(ADD, FORM, headers=ALONE).content.decode()
    run = PreviewRun.objects.get()
    assert "Waiting for a worker" in text
    assert f'name="preview_stop" value="{run.pk}"' in text
    again = {**FORM, "preview_run": str(run.pk)}
    assert "Waiting for a worker" in staff.post(ADD, again, headers=ALONE).content.decode()
    # As the task does it; a worker of its own: tests/test_preview_worker.py.
    assert previewing.carry_out(run.pk)
    # What is shown is of the form as it was tried, whatever it is by now.
    later = {**again, "quota": "4"}
    assert "denied 3 of 5" in staff.post(ADD, later, headers=ALONE).content.decode()
    assert previewing.carry_out(run.pk) is False
    staff.post(ADD, FORM, headers=ALONE)
    other = PreviewRun.objects.first()
    stopping = {**FORM, "preview_stop": str(other.pk)}
    assert "Stopped" in staff.post(ADD, stopping, headers=ALONE).content.decode()
    assert previewing.carry_out(other.pk) is False
    other.refresh_from_db()
    assert other.state == "stopped"


def test_a_run_is_its_owners(staff, client, monkeypatch):
    run = PreviewRun.objects.create(requested_by=User.objects.create(username="o"), rules="[]")
    form = {**FORM, "preview_run": str(run.pk)}
    assert "no longer kept" in staff.post(ADD, form, headers=ALONE).content.decode()
    staff.post(ADD, {**FORM, "preview_stop": str(run.pk)}, headers=ALONE)
    run.refresh_from_db()
    assert run.state == "waiting"


def test_a_worker_that_ended_is_told(staff):
    user = User.objects.get(username="staff")
    long_ago = previewing.timezone.now() - 2 * previewing.LOST_AFTER
    run = PreviewRun.objects.create(
        requested_by=user, rules="[]", state="running", seen_at=long_ago
    )
    form = {**FORM, "preview_run": str(run.pk)}
    text = staff.post(ADD, form, headers=ALONE).content.decode()
    assert "Its worker has ended" in text


def test_suggestion_and_what_cannot_be_told(staff):
    visit(staff, 37)
    staff.get("/admin/")
    get_engine().flush_traffic()
    text = staff.post(ADD, FORM, headers=ALONE).content.decode()
    assert "One client came, and made at most 37 requests per day." in text
    assert 'data-quota="37"' in text
    text = staff.post(ADD, {**FORM, "path_kind": "any", "path": "", "counted_by": "session"},
                      headers=ALONE).content.decode()  # fmt: skip
    assert "cannot be told" in text
    assert "Save the limit in shadow" in text
