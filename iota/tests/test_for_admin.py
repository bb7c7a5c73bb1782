"""Middleware of the admin's pages, sync and async; other requests pass it by."""

from __future__ import annotations

import inspect

import pytest
from asgiref.sync import iscoroutinefunction
from django.contrib.auth.models import User
from django.http import HttpResponse
from simple_history.models import HistoricalRecords

from apps.ratelimits.models import RateLimit
from iota.for_admin import AdminMessages, admin_history

PATHS = pytest.mark.parametrize(("path", "there"), [("/admin/x", True), ("/api/test", False)])


def look(request):
    request.seen = hasattr(request, "_messages"), hasattr(HistoricalRecords.context, "request")
    return HttpResponse()


async def alook(request):
    return look(request)


@PATHS
def test_messages_and_author_are_there_for_the_admin(rf, path, there):
    request = rf.get(path)
    request.session = {}
    AdminMessages(admin_history(look))(request)
    assert request.seen == (there, there)
    assert not hasattr(HistoricalRecords.context, "request")


@PATHS
async def test_and_on_the_event_loop(async_rf, path, there):
    request = async_rf.get(path)
    request.session = {}
    handler = AdminMessages(admin_history(alook))
    assert iscoroutinefunction(handler)
    assert iscoroutinefunction(admin_history(alook))
    answer = handler(request)
    assert inspect.isawaitable(answer)
    assert (await answer).status_code == 200
    assert request.seen == (there, there)


def test_an_edit_in_the_admin_names_its_author_and_tells_it(engine, client):
    ada = User.objects.create_superuser("ada")
    client.force_login(ada)
    limit = RateLimit.objects.create(name="api", quota=5)
    deleted = client.post(
        f"/admin/ratelimits/ratelimit/{limit.pk}/delete/", {"post": "yes"}, follow=True
    )
    assert "was deleted successfully" in deleted.content.decode()
    assert RateLimit.history.filter(history_type="-").get().history_user == ada
