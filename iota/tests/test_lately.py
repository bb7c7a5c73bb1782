"""The start page's limits that deny most and last edits, for whoever may see the limits."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from apps.ratelimits.models import LimitRollUp, RateLimit
from apps.ratelimits.models.usage import Resolution
from iota import lately

pytestmark = pytest.mark.django_db


def limit(name: str, **numbers: int) -> RateLimit:
    made = RateLimit.objects.create(name=name, quota=5)
    if numbers:
        LimitRollUp.objects.create(
            limit_id=made.pk,
            at=timezone.now() - timedelta(minutes=5),
            resolution_s=Resolution.MINUTE,
            **numbers,
        )
    return made


def test_the_worst_come_first_and_the_peaceful_not_at_all():
    limit("peaceful", allowed=900)
    limit("quiet")
    limit("some", allowed=90, denied=10)
    worst = limit("worst", allowed=1, denied=1_000, would_deny=999)
    gone = limit("gone", denied=5_000)
    LimitRollUp.objects.filter(limit_id=gone.pk).update(limit_id=gone.pk + 1_000)
    found = lately.deniers(timezone.now())
    assert [(row.name, row.denied, row.percent) for row in found] == [
        ("worst", 1_000, 50.0),
        ("some", 10, 10.0),
    ]
    assert found[0].link.endswith(f"/{worst.pk}/usage/")


def test_what_is_older_than_an_hour_is_left_out():
    made = limit("some")
    LimitRollUp.objects.create(
        limit_id=made.pk,
        at=timezone.now() - timedelta(minutes=90),
        resolution_s=Resolution.MINUTE,
        denied=7,
    )
    assert lately.deniers(timezone.now()) == []


def test_the_last_edits_name_who_and_why(admin_user):
    made = limit("api")
    made.quota = 9
    made._change_reason, made._history_user = "partners wait", admin_user
    made.save()
    newest, oldest = lately.edited()
    assert (str(newest.edit), newest.edit.who, newest.edit.reason) == (
        "api edited: quota",
        "admin",
        "partners wait",
    )
    assert newest.link.endswith(f"/ratelimit/{made.pk}/history/")
    assert str(oldest.edit) == "api made"


def test_the_page_links_to_both(admin_client, admin_user):
    page = admin_client.get("/admin/").text
    assert "No limit denied anybody." in page
    assert "Nobody has edited a limit yet." in page
    made = limit("api", denied=3, allowed=1_997)
    made._change_reason = "<b>why</b>"
    made.save()
    page = admin_client.get("/admin/").text
    assert f'href="/admin/ratelimits/ratelimit/{made.pk}/usage/?period=hour"' in page
    assert "0.2 % of 2,000" in page
    assert "&lt;b&gt;why&lt;/b&gt;" in page
    assert admin_client.get(lately.edited()[0].link).status_code == 200


def test_whoever_may_not_see_the_limits_sees_neither(client):
    user = User.objects.create_user("ada", is_staff=True)
    client.force_login(user)
    assert "start-panel" not in client.get("/admin/").text
    user.user_permissions.add(Permission.objects.get(codename="view_ratelimit"))
    assert client.get("/admin/").text.count('class="start-panel"') == 2
