"""Back to what was, as a change of its own."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError

from apps.ratelimits import rollback
from apps.ratelimits.models import Override, RateLimit

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", is_staff=True)


@pytest.fixture
def limit() -> RateLimit:
    """Made with a group, then everything about it changed."""
    made = RateLimit.objects.create(name="one", quota=5, path_kind="prefix", path="/api/")
    made.groups.add(Group.objects.create(name="partners"))
    made.name, made.quota, made.mode = "other", 7, "shadow"
    made.save()
    made.groups.clear()
    return made


def test_it_is_planned_without_being_saved(limit):
    with_group = limit.history.all()[2]
    planned = rollback.plan(RateLimit, limit.pk, with_group.history_id)
    told = {one.label: (one.before, one.after) for one in planned.differences}
    assert told == {
        "name": ("other", "one"),
        "quota": ("7", "5"),
        "mode": ("Shadow", "Enforce"),
        "groups": ("empty", "partners"),
    }
    limit.refresh_from_db()
    assert (limit.name, limit.quota) == ("other", 7)


def test_it_is_one_change_with_its_author_and_reason(limit, ada):
    number = limit.history.count()
    entry = limit.history.all()[2]
    made = limit.created_at
    rollback.carry_out(rollback.plan(RateLimit, limit.pk, entry.history_id), ada, "it was better")
    limit.refresh_from_db()
    assert (limit.name, limit.quota, limit.mode) == ("one", 5, "enforce")
    assert [group.name for group in limit.groups.all()] == ["partners"]
    assert (limit.created_at, limit.epoch) == (made, 0)
    newest = limit.history.first()
    assert limit.history.count() == number + 1
    assert newest.history_user == ada
    assert newest.history_change_reason.startswith("Rolled back to the change of ")
    assert newest.history_change_reason.endswith(": it was better")
    assert [row.group.name for row in newest.groups.all()] == ["partners"]


def test_another_algorithm_starts_afresh(limit, ada):
    limit.algorithm, limit.epoch = "fixed_window", 3
    limit.save()
    planned = rollback.plan(RateLimit, limit.pk, limit.history.last().history_id)
    assert planned.starts_afresh
    assert rollback.carry_out(planned, ada).epoch == 4


def test_what_was_deleted_comes_back_under_its_number_and_counts_anew(limit, ada):
    pk, number = limit.pk, limit.history.count()
    limit.epoch = 6
    limit.save()
    limit.groups.add(Group.objects.get(name="partners"))
    limit.delete()
    entry = RateLimit.history.filter(id=pk).first()
    back = rollback.carry_out(rollback.plan(RateLimit, pk, entry.history_id), ada)
    found = RateLimit.objects.get()
    assert (back.pk, found.name, found.epoch) == (pk, "other", 7)
    assert [group.name for group in found.groups.all()] == ["partners"]
    newest = found.history.first()
    assert (newest.history_type, found.history.count()) == ("+", number + 4)
    assert newest.history_change_reason.startswith("Brought back as of ")


def test_a_name_that_another_has_by_now_is_refused(limit):
    pk = limit.pk
    limit.delete()
    RateLimit.objects.create(name="other", quota=1)
    entry = RateLimit.history.filter(id=pk).first()
    with pytest.raises(ValidationError, match="Rate limit with this Name already exists"):
        rollback.plan(RateLimit, pk, entry.history_id).check()


def test_a_group_that_is_gone_is_left_out_and_counted(limit):
    entry = limit.history.all()[2]
    Group.objects.all().delete()
    planned = rollback.plan(RateLimit, limit.pk, entry.history_id)
    assert (planned.groups, planned.lost_groups) == ([], 1)


def test_an_override_of_somebody_who_is_gone_is_refused(ada):
    override = Override.objects.create(user=ada, action="blocked")
    pk = override.pk
    ada.delete()
    entry = Override.history.filter(id=pk).first()
    with pytest.raises(ValidationError, match="user instance with id"):
        rollback.plan(Override, pk, entry.history_id).check()


def test_an_entry_of_another_row_is_none(limit):
    other = RateLimit.objects.create(name="two", quota=5)
    with pytest.raises(RateLimit.history.model.DoesNotExist):
        rollback.plan(RateLimit, limit.pk, other.history.get().history_id)


def test_a_long_reason_is_cut_to_what_fits(limit):
    planned = rollback.plan(RateLimit, limit.pk, limit.history.last().history_id)
    assert len(rollback.reason(planned, "x" * 500)) == 200
