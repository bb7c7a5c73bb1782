"""An edit is one entry, with its groups."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group

from apps.ratelimits import modes
from apps.ratelimits.models import RateLimit
from apps.ratelimits.models.entries import in_last_entry

pytestmark = pytest.mark.django_db


@pytest.fixture
def limit() -> RateLimit:
    return RateLimit.objects.create(name="one", quota=5, mode="enforce")


def names(entry) -> list[str]:
    return sorted(row.group.name for row in entry.groups.all())


def test_groups_that_are_set_with_a_save_are_in_its_entry(limit):
    beta, partners, gone = (Group.objects.create(name=n) for n in ("beta", "partners", "gone"))
    limit.groups.add(gone)
    before = limit.history.count()
    limit.save()
    with in_last_entry(limit):
        limit.groups.set([beta, partners])
    newest, *older = limit.history.all()
    assert (limit.history.count(), names(newest)) == (before + 1, ["beta", "partners"])
    assert names(older[0]) == ["gone"]
    # And a change by code later is an entry of its own again.
    limit.groups.remove(beta)
    assert names(limit.history.first()) == ["partners"]
    assert limit.history.count() == before + 2


def test_the_commands_entry_has_the_groups_too(limit):
    other = RateLimit.objects.create(name="two", quota=5, mode="enforce")
    limit.groups.add(Group.objects.create(name="partners"))
    modes.set_modes({"one": "off", "two": "off"})
    assert names(limit.history.first()) == ["partners"]
    assert names(other.history.first()) == []
