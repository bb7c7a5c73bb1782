"""The four numbers of the start page: what is not known of now is no number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from apps.monitoring.history import Point
from apps.monitoring.metrics import Kind
from apps.monitoring.models import Source
from apps.monitoring.tests import watched
from iota.now import HEIGHT, WIDTH, line, numbers

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC)


def limiter(**values: float | None) -> Source:
    source = watched.source(Kind.LIMITER, "")
    source.samples.create(at=NOW - timedelta(seconds=10), values=values)
    return source


def shown() -> dict[str, tuple[str, str]]:
    return {number.title: (number.text, number.beside) for number in numbers(NOW)}


def test_nothing_is_known_of_a_new_site():
    found = shown()
    assert list(found) == ["Allowed", "Denied", "Check, p99", "Redis"]
    assert {text for text, _ in found.values()} == {""}
    assert all(beside.startswith("not known") for _, beside in found.values())


def test_what_is_known_is_said_with_its_unit():
    limiter(
        allowed_per_s=1234.5, denied_per_s=7, degraded_per_s=0, requests_per_s=1300,
        check_p99_us=812.0, check_p50_us=95.0,
    )  # fmt: skip
    watched.source().samples.create(at=NOW, values={"round_trip_us": 180.0})
    assert shown() == {
        "Allowed": ("1,234/s", "of 1,300 requests/s"),
        "Denied": ("7/s", ""),
        "Check, p99": ("812 us", "p50 95 us"),
        "Redis": ("180 us", "round trip"),
    }


def test_what_was_decided_without_redis_stands_beside_what_was_denied():
    limiter(denied_per_s=0, degraded_per_s=3.5)
    assert shown()["Denied"] == ("0/s", "3.50/s decided without Redis")


def test_where_nobody_asked_no_time_is_known():
    limiter(denied_per_s=0, check_p99_us=None, check_p50_us=None)
    assert shown()["Check, p99"] == ("", "no checks just now")


def test_what_is_old_is_not_known():
    source = watched.source(Kind.LIMITER, "")
    source.samples.create(at=NOW - timedelta(minutes=2), values={"allowed_per_s": 9})
    (allowed, *_) = numbers(NOW)
    assert (allowed.text, allowed.told) == ("", "The last hour: 9/s to 9/s")


def test_of_several_nodes_the_farthest_and_the_silent_one_first():
    for address, us in (("a:1", 100), ("b:1", 900)):
        watched.source(Kind.NODE, address).samples.create(at=NOW, values={"round_trip_us": us})
    assert shown()["Redis"] == ("900 us", "longest round trip of 2 nodes")
    Source.objects.filter(address="a:1").update(error="refused")
    assert shown()["Redis"] == ("", "a:1 does not answer")


def test_a_line_has_a_hole_where_nothing_is_known():
    at = [NOW + timedelta(minutes=n) for n in range(5)]
    means = [0.0, 10.0, None, None, 5.0]
    first, second = line([Point(a, m, m, m) for a, m in zip(at, means, strict=True)])
    assert first == f"0.0,{HEIGHT - 1:.1f} {WIDTH / 4:.1f},1.0 0.0,{HEIGHT - 1:.1f}"
    assert second.split()[0] == f"{WIDTH:.1f},{HEIGHT / 2:.1f}"
    assert line([Point(NOW, None, None, None)]) == ()


def test_only_who_may_see_the_watch_sees_the_numbers(client):
    user = User.objects.create_user("ada", is_staff=True)
    client.force_login(user)
    assert "start-number" not in client.get("/admin/").text
    user.user_permissions.add(Permission.objects.get(codename="view_source"))
    assert client.get("/admin/").text.count('class="start-number"') == 4


def test_the_page_says_the_line_in_words(admin_client):
    source = watched.source(Kind.LIMITER, "")
    source.samples.create(at=timezone.now(), values={"allowed_per_s": 9})
    page = admin_client.get("/admin/").text
    assert 'aria-label="The last hour: 9/s to 9/s"' in page
