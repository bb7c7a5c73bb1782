"""What a view's named limits count: which request, of whom, and how much."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from apps.ratelimits.models import Override, RateLimit
from apps.ratelimits.storage.usage import LimitUsage
from apps.ratelimits.testing import no_rate_limits  # noqa: F401  (a fixture)
from apps.ratelimits.use import peek

from . import named_views
from .named_views import fields, limit, statuses

pytestmark = pytest.mark.urls(named_views.__name__)

__all__ = ["limit"]


def test_it_counts_only_where_code_asks(limit, client):
    limit()
    assert statuses(client, "/outside") == [200] * 5
    assert "RateLimit" not in client.get("/outside")
    assert client.get("/plain")["RateLimit"].startswith('"named";r=2')


def test_a_limit_by_path_that_code_names_too_is_charged_once(limit, client):
    """By the middleware; elsewhere by the view."""
    limit(path_kind="exact", path="/plain")
    first = client.get("/plain")
    assert first["RateLimit"].count("named") == 1
    assert fields(first)["named"]["r"] == 2
    assert statuses(client, "/plain", 3) == [200, 200, 429]
    assert statuses(client, "/on-class", 1) == [429]


@pytest.mark.parametrize(("counted_by", "others_left"), [("address", 2), ("everyone", 1)])
def test_whom_code_names_as_the_path_counts_is_charged_once(limit, client, counted_by, others_left):
    limit(path_kind="exact", path="/whose-address", counted_by=counted_by)
    mine, other = {"address": "127.0.0.1"}, {"address": "198.51.100.9"}
    client.get("/whose-address?who=127.0.0.1")
    assert peek("named", mine).remaining == 2
    client.get("/whose-address?who=198.51.100.9")
    assert peek("named", mine).remaining == 1
    assert peek("named", other).remaining == others_left


@pytest.mark.parametrize(("url", "left"), [("/twice", 2), ("/two-identities", 2)])
def test_one_identity_is_charged_once_for_a_request_and_another_by_itself(limit, client, url, left):
    limit()
    assert fields(client.get(url))["named"]["r"] == left
    if url == "/two-identities":
        assert statuses(client, url, 3, REMOTE_ADDR="198.51.100.1") == [200, 200, 429]
    else:
        assert statuses(client, url, 3) == [200, 200, 429]


def test_the_fields_are_those_of_all_limits_the_tightest_first(limit, client):
    limit(quota=2)
    limit(name="everything", quota=10, path_kind="any")
    response = client.get("/plain")
    assert list(fields(response)) == ["named", "everything"]
    assert fields(response, "RateLimit-Policy") == {
        "named": {"q": 2, "w": 3600},
        "everything": {"q": 10, "w": 3600},
    }
    client.get("/plain")
    denied = client.get("/plain")
    assert denied.status_code == 429
    assert list(fields(denied)) == ["named", "everything"]
    assert fields(denied)["everything"]["r"] == 7
    assert int(denied["Retry-After"]) > 0


def test_all_names_are_charged_or_none(limit, client):
    limit(quota=10)
    limit(name="second", quota=2)
    assert statuses(client, "/both", 4) == [200, 200, 429, 429]
    assert fields(client.get("/plain"))["named"]["r"] == 7


def test_a_request_costs_what_the_function_says(limit, client):
    limit(quota=10)
    assert fields(client.get("/weighed?cost=7"))["named"]["r"] == 3
    assert client.get("/weighed?cost=4").status_code == 429
    assert fields(client.get("/weighed?cost=3"))["named"]["r"] == 0
    assert client.get("/weighed?cost=0").status_code == 200
    with pytest.raises(ValueError, match="whole number of units"):
        client.get("/weighed?cost=-1")


def test_a_cost_over_all_that_can_be_free_is_refused_clearly(limit, client, engine):
    made = limit(quota=10)
    denied = client.get("/weighed?cost=11")
    assert denied.status_code == 429
    assert "costs 11 units, and never more than 10" in denied.json()["detail"]
    assert denied.json()["violated-policies"] == ["named"]
    assert fields(client.get("/weighed?cost=10"))["named"]["r"] == 0
    engine.flush_usage()
    engine.flush_denied()
    assert engine.usage.read().limits == {made.pk: LimitUsage(1, 1)}
    assert [denial.denied for denial in engine.denied.recent()] == [(made.pk,)]


def test_what_is_taken_ahead_is_not_mixed_with_dear_requests(limit, client):
    limit(quota=20, lease=10)
    for _ in range(4):
        assert client.get("/plain").status_code == 200
    assert client.get("/weighed?cost=5").status_code == 200
    # A block that this process has taken is lost to the dear ones, and never used twice.
    cheap = statuses(client, "/plain", 20).count(200)
    assert cheap <= 20 - 4 - 5
    assert cheap >= 8


def test_code_says_who_is_counted(limit, client):
    limit(quota=1)
    assert statuses(client, "/whose?who=ada", 2) == [200, 429]
    assert statuses(client, "/whose?who=ada", 1, REMOTE_ADDR="198.51.100.1") == [429]
    assert statuses(client, "/whose?who=bob", 2) == [200, 429]
    assert statuses(client, "/plain", 2) == [200, 429]


def test_an_address_that_code_names_shares_its_count_with_requests(limit, client):
    limit(quota=2)
    assert statuses(client, "/whose-address?who=2001:db8::1", 1) == [200]
    assert statuses(client, "/plain", 2, REMOTE_ADDR="2001:db8::2") == [200, 429]


def test_whoever_code_names_everyone_together_is_one_count(limit, client):
    limit(quota=2, counted_by="everyone")
    assert statuses(client, "/whose?who=ada", 1) == [200]
    assert statuses(client, "/whose?who=bob", 2) == [200, 429]


def test_methods_host_networks_audience_and_time_still_say_whom_it_is_about(limit, client):
    made = limit(quota=1)
    for changes in (
        {"methods": "POST"},
        {"host": "elsewhere.example"},
        {"networks": "203.0.113.0/24"},
        {"audience": "signed_in"},
        {"active_until": "2020-01-01T00:00Z"},
    ):
        RateLimit.objects.filter(pk=made.pk).update(
            **{"methods": "", "host": "", "networks": "", "audience": "everyone", **changes}
        )
        from apps.ratelimits.engine import get_engine

        get_engine().refresh()
        assert statuses(client, "/plain", 3) == [200] * 3, changes


def test_shadow_counts_and_off_and_overrides_hold(limit, client, engine, redis_client):
    made = limit(quota=1, mode="shadow")
    assert statuses(client, "/plain", 3) == [200] * 3
    engine.flush_usage()
    counted = engine.usage.read().limits[made.pk]
    assert (counted.allowed, counted.would_deny) == (1, 2)
    RateLimit.objects.filter(pk=made.pk).update(mode="off")
    engine.refresh()
    assert statuses(client, "/plain", 3) == [200] * 3
    RateLimit.objects.filter(pk=made.pk).update(mode="enforce")
    Override.objects.create(network="198.51.100.0/24", action="unlimited")
    Override.objects.create(network="203.0.113.0/24", action="blocked")
    Override.objects.create(network="192.0.2.0/24", action="quota", quota=2)
    engine.refresh()
    assert statuses(client, "/plain", 3, REMOTE_ADDR="198.51.100.1") == [200] * 3
    assert statuses(client, "/plain", 1, REMOTE_ADDR="203.0.113.1") == [429]
    assert statuses(client, "/plain", 3, REMOTE_ADDR="192.0.2.1") == [200, 200, 429]
    assert statuses(client, "/weighed?cost=2", 2, REMOTE_ADDR="192.0.2.2") == [200, 429]


def test_users_are_counted_as_by_the_middleware(limit, client):
    limit(quota=1, counted_by="user")
    client.force_login(User.objects.create_user("ada"))
    assert statuses(client, "/plain", 1) == [200]
    assert statuses(client, "/on-class", 1, REMOTE_ADDR="198.51.100.9") == [429]
