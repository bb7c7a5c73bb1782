"""The groups that a migration makes, once."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission, User
from django.db import connection

from apps.ratelimits import groups
from apps.ratelimits.models import RateLimit

pytestmark = pytest.mark.django_db
migration = import_module("apps.ratelimits.migrations.0012_rights")
EDITOR = SimpleNamespace(connection=connection)


def held(name: str) -> set[str]:
    rows = Group.objects.get(name=name).permissions.select_related("content_type")
    return {f"{row.content_type.app_label}.{row.codename}" for row in rows}


def test_migrate_leaves_three_groups_each_with_more_than_the_last():
    assert {name: held(name) for name in migration.RIGHTS} == {
        name: set(wanted) for name, wanted in migration.RIGHTS.items()
    }
    viewers, editors, publishers = (held(name) for name in migration.RIGHTS)
    assert viewers < editors < publishers
    assert all("view_" in permission for permission in viewers)
    assert "ratelimits.publish_ratelimit" in publishers - editors


def test_a_group_that_staff_have_edited_or_deleted_stays_so():
    Group.objects.get(name=groups.EDITORS).permissions.clear()
    migration.groups(apps, EDITOR)
    assert held(groups.EDITORS) == set()
    assert Group.objects.filter(name__in=migration.RIGHTS).count() == 3


def test_permissions_that_are_not_there_yet_are_made_as_post_migrate_would():
    rows = Permission.objects.filter(content_type__app_label__in=("ratelimits", "monitoring"))
    before = dict(rows.values_list("codename", "name"))
    rows.delete()
    Group.objects.filter(name__in=migration.RIGHTS).delete()
    migration.groups(apps, EDITOR)
    for label in ("ratelimits", "monitoring"):
        create_permissions(apps.get_app_config(label), verbosity=0)
    assert dict(rows.all().values_list("codename", "name")) == before
    assert rows.count() == len(before)
    assert held(groups.PUBLISHERS) == set(migration.PUBLISH)


def test_what_is_not_installed_is_left_out():
    wanted = ["no_such_app.view_thing", "ratelimits.view_ratelimit", "ratelimits.fly_ratelimit"]
    groups.make(apps, {"some": wanted})
    assert held("some") == {"ratelimits.view_ratelimit"}


def test_whoever_could_enforce_before_can_still():
    change = Permission.objects.get(codename="change_ratelimit")
    ada, bob = (User.objects.create_user(name, is_staff=True) for name in ("ada", "bob"))
    ada.user_permissions.add(change)
    duty = Group.objects.create(name="duty")
    duty.permissions.add(change)
    Group.objects.filter(name__in=migration.RIGHTS).delete()
    migration.whoever_could_still_can(apps, EDITOR)
    assert held("duty") == {"ratelimits.change_ratelimit", "ratelimits.publish_ratelimit"}
    assert ada.has_perm("ratelimits.publish_ratelimit")
    assert not bob.has_perm("ratelimits.publish_ratelimit")


def test_earlier_entries_get_the_groups_of_now():
    limit = RateLimit.objects.create(name="one", quota=5)
    RateLimit.objects.create(name="two", quota=5)
    limit.groups.add(Group.objects.create(name="partners"))
    limit.history.model.groups.model.objects.all().delete()
    migration.remember_groups(apps, EDITOR)
    assert {entry.groups.get().group.name for entry in limit.history.all()} == {"partners"}
    assert limit.history.model.groups.model.objects.count() == limit.history.count() == 2
