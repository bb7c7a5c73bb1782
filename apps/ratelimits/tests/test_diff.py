"""What differs, in words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import Group, User

from apps.ratelimits import diff
from apps.ratelimits.models import Override, RateLimit

pytestmark = pytest.mark.django_db


def differences(model, pk: int) -> list[tuple[str, str, str]]:
    """Between the newest entry of a row and the one it followed."""
    (entry,) = diff.with_before(model.history.filter(id=pk))[:1]
    known = diff.versions(diff.followed([entry]).values())
    words = diff.Words(model, known.values())
    found = words.differences(known[entry.before], known[entry.history_id])
    return [(one.label, one.before, one.after) for one in found]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "shadow"}, ("mode", "Enforce", "Shadow")),
        ({"quota": 1_000_000}, ("quota", "5", "1,000,000")),
        ({"burst": 3}, ("burst", "empty", "3")),
        ({"charge_denied": True}, ("count denied requests too", "no", "yes")),
        ({"window_unit": 3600}, ("unit", "minutes", "hours")),
        (
            {"counted_by": "user,header"},
            ("counted by", "Client address", "User, API key in a header"),
        ),
        (
            {"networks": "10.0.0.0/8\n192.0.2.0/24"},
            ("networks", "empty", "10.0.0.0/8, 192.0.2.0/24"),
        ),
        ({"epoch": 1}, ("what was counted", "kept", "forgotten: started afresh")),
        (
            {"active_from": datetime(2026, 1, 2, 3, 4, tzinfo=UTC)},
            ("active from", "empty", "Jan. 2, 2026, 3:04 a.m."),
        ),
    ],
)
def test_a_field_is_told_by_label_and_in_words(changes, said):
    limit = RateLimit.objects.create(name="one", quota=5)
    for name, value in changes.items():
        setattr(limit, name, value)
    limit.save()
    assert differences(RateLimit, limit.pk) == [said]


def test_a_long_value_is_cut():
    limit = RateLimit.objects.create(name="one", quota=5)
    limit.networks = "\n".join(f"10.{n}.0.0/16" for n in range(256))
    limit.save()
    ((_, _, after),) = differences(RateLimit, limit.pk)
    assert len(after) == diff.MOST_CHARS
    assert after.endswith("…")


def test_groups_are_told_by_name_also_once_they_are_gone():
    limit = RateLimit.objects.create(name="one", quota=5)
    beta, gone = (Group.objects.create(name=name) for name in ("beta", "gone"))
    limit.groups.add(beta, gone)
    number = gone.pk
    gone.delete()
    said = f"beta, group {number}, which is gone"
    assert differences(RateLimit, limit.pk) == [("groups", "empty", said)]


def test_whom_an_override_was_about_is_named_also_once_gone():
    ada, bob = (User.objects.create_user(name) for name in ("ada", "bob"))
    override = Override.objects.create(user=ada, action="blocked")
    override.user = bob
    override.save()
    assert differences(Override, override.pk) == [("user", "ada", "bob")]
    number = ada.pk
    ada.delete()
    assert differences(Override, override.pk) == [("user", f"user {number}, which is gone", "bob")]


def test_a_deletion_has_the_groups_that_were_there_last():
    limit = RateLimit.objects.create(name="one", quota=5)
    group = Group.objects.create(name="beta")
    limit.groups.add(group)
    pk = limit.pk
    limit.delete()
    (entry,) = diff.with_before(RateLimit.history.filter(id=pk))[:1]
    assert entry.history_type == "-"
    assert diff.versions([entry])[entry.history_id].groups == (group.pk,)


def test_a_page_of_entries_is_a_handful_of_queries(django_assert_max_num_queries):
    limit = RateLimit.objects.create(name="one", quota=5)
    for quota in range(6, 40):
        limit.quota = quota
        limit.save()
    with django_assert_max_num_queries(4):
        entries = list(diff.with_before(limit.history.all())[:20])
        known = diff.versions(diff.followed(entries).values())
        words = diff.Words(RateLimit, known.values())
        for entry in entries:
            assert len(words.differences(known[entry.before], known[entry.history_id])) == 1
