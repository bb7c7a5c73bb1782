"""What a host site's tests use to be left alone."""

from __future__ import annotations

import pytest
from django.test import Client

from apps.ratelimits.models import RateLimit
from apps.ratelimits.testing import no_rate_limits as no_rate_limits


@pytest.fixture
def one_per_hour(engine) -> None:
    RateLimit.objects.create(name="one", quota=1, window_unit=3600)
    engine.refresh()


def test_limits_are_on_without_the_fixture(one_per_hour):
    client = Client()
    assert [client.get("/api/test").status_code for _ in range(2)] == [200, 429]


def test_limits_are_off_with_it(one_per_hour, no_rate_limits):
    client = Client()
    assert [client.get("/api/test").status_code for _ in range(3)] == [200] * 3
    assert client.get("/").status_code == 200
