"""What is a publisher's to change."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User

from apps.ratelimits import rights
from apps.ratelimits.models import Override, RateLimit

pytestmark = pytest.mark.django_db


def test_every_mode_that_is_not_known_to_be_harmless_needs_a_publisher():
    denying = {mode.value for mode in RateLimit.Mode if rights.denies(mode.value)}
    assert "enforce" in denying
    assert not denying & {"off", "shadow"}
    assert rights.denies("a mode of tomorrow")


@pytest.mark.parametrize("mode", ["off", "shadow", "enforce"])
def test_an_override_is_in_force_where_its_limit_is(mode):
    limit = RateLimit.objects.create(name="one", quota=5, mode=mode)
    override = Override(limit=limit, network="192.0.2.0/24", action="blocked")
    assert rights.in_force(limit) is rights.in_force(override) is (mode == "enforce")


def test_an_override_of_every_limit_is_in_force_and_one_of_a_limit_that_is_gone_is_not():
    assert rights.in_force(Override(network="192.0.2.0/24", action="blocked"))
    assert not rights.in_force(Override(limit_id=999, network="192.0.2.0/24", action="blocked"))


def test_who_may_publish():
    user = User.objects.create_user("ada", is_staff=True)
    assert not rights.may_publish(user)
    user.user_permissions.add(Permission.objects.get(codename="publish_ratelimit"))
    assert rights.may_publish(User.objects.get())
    assert rights.may_publish(User.objects.create_superuser("grace"))
    assert not rights.may_publish(User(is_superuser=True, is_active=False))
