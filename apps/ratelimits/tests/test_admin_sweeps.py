"""The page of the clean-up, and who may do what there."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from celery import current_app
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from apps.ratelimits import clean_up, tasks
from apps.ratelimits.models import SweepRun

from .test_clean_up import limits  # noqa: F401  (a fixture)

PAGE = "/admin/ratelimits/sweeprun/"
QUEUE = "celery"


@pytest.fixture
def staff(engine, admin_client):
    return admin_client


def text(response) -> str:
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def person(client, *codenames: str) -> User:
    user = User.objects.create_user("ada", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    return user


def test_an_empty_page_says_what_will_be_there(staff):
    said = text(staff.get(PAGE))
    assert "No pass has come to its end yet." in said
    assert "count it first" in said
    assert "<table>" not in said


def test_the_page_says_whether_it_keeps_up(staff, limits):  # noqa: F811
    clean_up.sweep("schedule", budget_s=1e-9)
    assert "The first pass is under way: 0 of about" in text(staff.get(PAGE))
    clean_up.sweep("schedule")
    clean_up.sweep("command", dry_run=True)
    said = text(staff.get(PAGE))
    assert "The last pass went through all keys" in said
    assert "<dt>Records cut out</dt><dd>2</dd>" in said
    assert "<dt>Runs</dt><dd>2</dd>" in said
    # The page itself is counted by the limits.
    assert re.search(r"Counted .* 0 of [2-9] keys would be removed", said)
    assert '<th scope="row">one</th><td class="number">3</td>' in said
    assert "to be continued" in said
    assert "only counted" in said


def test_a_run_under_way_shows_how_far_it_is_and_can_be_stopped(staff):
    place = {"address": "a:1", "keys": 4_000, "seen": 1_000, "done": False, "error": ""}
    run = SweepRun.objects.create(trigger="schedule", places=[place], seen=1_000)
    said = text(staff.get(PAGE))
    assert 'aria-valuenow="25"' in said
    assert 'http-equiv="refresh"' in said
    assert 'value="sweep"' not in said
    assert "Stopped: what it removed is gone" in text(
        staff.post(f"{PAGE}{run.pk}/stop/", follow=True)
    )
    run.refresh_from_db()
    assert run.state == "stopped"
    assert "has ended" in text(staff.post(f"{PAGE}{run.pk}/stop/", follow=True))


def test_run_now_and_count_only_send_the_task(staff, redis_client):
    for what, dry_run in (("sweep", False), ("count", True)):
        said = text(staff.post(f"{PAGE}run-now/", {"what": what}, follow=True))
        assert "begins when a worker takes it" in said
        message = json.loads(redis_client.rpop(QUEUE))
        assert message["headers"]["task"] == tasks.sweep.name
        assert message["headers"]["expires"]
        assert f"'dry_run': {dry_run}" in message["headers"]["kwargsrepr"]
    SweepRun.objects.create(trigger="schedule")
    assert "is under way" in text(staff.post(f"{PAGE}run-now/", {"what": "sweep"}, follow=True))
    assert redis_client.llen(QUEUE) == 0


def test_without_a_broker_it_says_so(staff, monkeypatch):
    monkeypatch.setattr(current_app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    said = text(staff.post(f"{PAGE}run-now/", {"what": "sweep"}, follow=True))
    assert "Celery&#x27;s broker does not answer" in said


def test_what_failed_is_told(staff):
    place = {"address": "a:1", "keys": 0, "seen": 0, "done": False, "error": "TimeoutError: <b>"}
    now = timezone.now()
    SweepRun.objects.create(
        trigger="schedule", state="failed", error="ValueError: x", places=[place], ended_at=now
    )
    said = text(staff.get(PAGE))
    assert "ValueError: x; a:1: TimeoutError: &lt;b&gt;" in said


def test_runs_are_shown_page_by_page_in_few_queries(staff, django_assert_max_num_queries):
    began = timezone.now() - timedelta(hours=2)
    SweepRun.objects.bulk_create(
        SweepRun(trigger="schedule", state="done", started_at=began, ended_at=began, is_last=True)
        for _ in range(60)
    )
    with django_assert_max_num_queries(15):
        said = text(staff.get(PAGE))
    assert "Page 1 of 3" in said
    assert "Page 3 of 3" in text(staff.get(f"{PAGE}?p=3"))


@pytest.mark.parametrize(
    ("codenames", "page", "posts"),
    [((), 403, 403), (("view_sweeprun",), 200, 403), (("run_sweeprun",), 403, 403)],
)
def test_who_may_see_and_do_what(engine, client, codenames, page, posts):
    person(client, *codenames)
    run = SweepRun.objects.create(trigger="schedule")
    assert client.get(PAGE).status_code == page
    assert client.get(f"{PAGE}{run.pk}/change/").status_code == {200: 302}.get(page, page)
    assert client.get(f"{PAGE}add/").status_code == 403
    for address in (f"{PAGE}run-now/", f"{PAGE}{run.pk}/stop/"):
        assert client.post(address).status_code == posts
        assert client.get(address).status_code == 405
    run.refresh_from_db()
    assert run.state == "running"
    if page == 200:
        said = text(client.get(PAGE))
        assert "Stop it" not in said


def test_who_may_run_may_stop(engine, client):
    person(client, "view_sweeprun", "run_sweeprun")
    run = SweepRun.objects.create(trigger="schedule")
    assert client.post(f"{PAGE}{run.pk}/stop/").status_code == 302
    run.refresh_from_db()
    assert run.state == "stopped"
