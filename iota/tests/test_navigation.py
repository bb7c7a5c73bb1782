from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import RequestFactory

from iota import urls as urls  # as on a site: it registers the pages of users and groups
from iota.navigation import MODELS, PAGES, sidebar

pytestmark = pytest.mark.django_db


def of(user: User, path: str = "/admin/") -> dict[str, list[str]]:
    request = RequestFactory().get(path)
    request.user = user
    return {
        group["title"]: [item["title"] for item in group["items"]] for group in sidebar(request)
    }


def active(user: User, path: str) -> list[str]:
    request = RequestFactory().get(path)
    request.user = user
    return [
        item["title"] for group in sidebar(request) for item in group["items"] if item["active"]
    ]


def test_what_people_come_for_is_there_and_first(admin_user):
    found = of(admin_user)
    assert list(found)[:3] == ["Rate limits", "Monitoring", "Benchmarks"]
    assert found["Rate limits"] == [
        "Rate limits", "Explain", "Identities", "Recent edits", "Overrides", "Clean-up",
    ]  # fmt: skip
    assert found["Monitoring"][:3] == ["Health", "Alerts", "Doctor"]
    assert found["Benchmarks"][0] == "Trends"
    assert sum(map(len, found.values())) == sum(map(len, MODELS.values())) + sum(
        map(len, PAGES.values())
    ) + len(found["Authentication and Authorization"])


def test_nobody_sees_what_is_not_theirs():
    user = User.objects.create_user("ada", is_staff=True)
    assert of(user) == {}
    user.user_permissions.add(Permission.objects.get(codename="view_silence"))
    assert of(User.objects.get()) == {"Monitoring": ["Silences"]}


def test_a_page_below_a_list_is_not_that_list(admin_user):
    assert active(admin_user, "/admin/benchmarks/metric/trends/") == ["Trends"]
    assert active(admin_user, "/admin/benchmarks/metric/1/change/") == ["Metrics"]
    assert active(admin_user, "/admin/") == []
