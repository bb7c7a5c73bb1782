"""Read by other apps: which edits, of what, by whom, and never whom an override is about."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.ratelimits import history, modes
from apps.ratelimits.models import Override, RateLimit

pytestmark = pytest.mark.django_db


def of_today(**more):
    now = timezone.now()
    return history.edits(now - timedelta(days=1), now, **more)


def test_an_edit_says_what_changed_and_who_did_it(admin_user):
    limit = RateLimit.objects.create(name="tight", quota=1_000)
    limit.quota, limit.burst = 2_000, 50
    limit._history_user = admin_user
    limit.save()
    pk = limit.pk
    limit.delete()
    found = of_today()
    assert [str(edit) for edit in found] == [
        "tight deleted",
        "tight edited: quota, burst",
        "tight made",
    ]
    assert [edit.who for edit in found][1:] == ["admin", ""]
    assert {(edit.model, edit.pk) for edit in found} == {("ratelimit", pk)}


def test_an_override_is_a_number_and_no_person(admin_user):
    override = Override.objects.create(network="203.0.113.0/24", action="blocked")
    override.network = "198.51.100.0/24"
    override.save()
    said = " ".join(map(str, of_today()))
    assert f"override {override.pk} edited: network" in said
    assert "203" not in said
    assert "198" not in said


def test_what_a_command_did_is_nobodys():
    RateLimit.objects.create(name="tight", quota=1_000, mode="enforce")
    modes.set_modes({"tight": "off"})
    (newest, _) = of_today()
    assert (str(newest), newest.who) == ("tight edited: mode", "")


def test_only_of_the_time_that_was_asked_for():
    limit = RateLimit.objects.create(name="tight", quota=1_000)
    RateLimit.history.update(history_date=timezone.now() - timedelta(days=2))
    limit.quota = 5
    limit.save()
    # What it was before is known all the same.
    assert [str(edit) for edit in of_today()] == ["tight edited: quota"]


def test_a_long_history_is_cut_and_costs_no_more_queries(django_assert_max_num_queries):
    limits = [RateLimit.objects.create(name=f"limit-{n}", quota=1_000) for n in range(30)]
    for limit in limits:
        limit.quota = 7
        limit.save()
    with django_assert_max_num_queries(7):
        assert len(of_today()) == 60
        assert [edit.name for edit in of_today(most=2)] == ["limit-29", "limit-28"]
