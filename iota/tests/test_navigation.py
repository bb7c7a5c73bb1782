from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import RequestFactory

from iota import urls as urls  # as on a site: it registers the pages of users and groups
from iota.navigation import PAGES, sidebar

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


def test_every_model_and_page_is_there(admin_user):
    found = of(admin_user)
    assert sum(len(titles) for titles in found.values()) == len(admin.site._registry) + sum(
        len(pages) for pages in PAGES.values()
    )
    assert found["Benchmarks"][0] == "Trends"
    assert "Health" in found["Monitoring"]
    assert "Rate limits" in found["Rate limits"]


def test_nobody_sees_what_is_not_theirs():
    user = User.objects.create_user("ada", is_staff=True)
    assert of(user) == {}
    user.user_permissions.add(Permission.objects.get(codename="view_machine"))
    assert of(User.objects.get()) == {"Benchmarks": ["Machines"]}


def test_a_page_below_a_list_is_not_that_list(admin_user):
    assert active(admin_user, "/admin/benchmarks/metric/trends/") == ["Trends"]
    assert active(admin_user, "/admin/benchmarks/metric/1/change/") == ["Metrics"]
    assert active(admin_user, "/admin/") == []
