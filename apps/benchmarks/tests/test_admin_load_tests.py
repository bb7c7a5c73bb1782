"""Load tests in the admin: who starts one, against what, and how much."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User

from apps.benchmarks.load_test import LoadTest

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engine")]

LIST = "/admin/benchmarks/loadtest/"
TARGET = "https://staging.example.com"
ASKED = {"target": TARGET, "users": "20", "seconds": "30", "per_s": "10", "shape": ""}


@pytest.fixture(autouse=True)
def _targets(settings):
    settings.IOTA_LOADTEST_TARGETS = (TARGET,)
    settings.IOTA_LOADTEST_MAX_USERS = 40
    settings.IOTA_LOADTEST_MAX_SECONDS = 60


@pytest.fixture
def staff(client):
    def signed_in(*verbs: str) -> User:
        user = User.objects.create_user("ada", password="a long one for tests", is_staff=True)
        names = [f"{verb}_loadtest" for verb in verbs]
        user.user_permissions.set(Permission.objects.filter(codename__in=names))
        client.force_login(user)
        return user

    return signed_in


def told(response) -> str:
    return " ".join(str(message) for message in response.context["messages"])


def test_one_is_started_and_waits(client, staff):
    user = staff("view", "add")
    response = client.post(f"{LIST}start/", {**ASKED, "same_limits": "on"}, follow=True)
    (test,) = LoadTest.objects.all()
    assert (test.state, test.target, test.users, test.seconds) == ("queued", TARGET, 20, 30)
    assert (test.same_limits, test.own_addresses, test.requested_by) == (True, False, user)
    assert response.redirect_chain == [(f"{LIST}{test.pk}/change/", 302)]
    assert "waits for a worker" in told(response)
    assert "queues loadtests" in response.content.decode()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"target": "http://127.0.0.1:8000"}, "not one of the available choices"),
        ({"target": ""}, "Target"),
        ({"users": "41"}, "41 users: use 1 to 40"),
        ({"users": "0"}, "greater than or equal to 1"),
        ({"seconds": "61"}, "61 s: use 1 to 60"),
        ({"seconds": "x"}, "whole number"),
        ({"per_s": "5000"}, "less than or equal to"),
        ({"shape": "square"}, "Shape"),
    ],
)
def test_what_is_not_allowed_is_said_and_not_started(client, staff, changes, why):
    staff("view", "add")
    response = client.post(f"{LIST}start/", {**ASKED, **changes}, follow=True)
    assert why in told(response)
    assert not LoadTest.objects.exists()


def test_one_at_a_time(client, staff):
    staff("view", "add")
    client.post(f"{LIST}start/", ASKED)
    response = client.post(f"{LIST}start/", ASKED, follow=True)
    assert "is not over yet" in told(response)
    assert LoadTest.objects.count() == 1


def test_without_a_target_the_page_says_how_to_allow_one(client, staff, settings):
    settings.IOTA_LOADTEST_TARGETS = ()
    staff("view", "add")
    page = client.get(LIST).content.decode()
    assert "IOTA_LOADTEST_TARGETS=https://staging.example.com" in page
    assert 'load_start"' not in page
    response = client.post(f"{LIST}start/", ASKED, follow=True)
    assert "not one of the available choices" in told(response)
    assert not LoadTest.objects.exists()


def test_a_viewer_sees_and_starts_nothing(client, staff):
    staff("view")
    page = client.get(LIST).content.decode()
    assert "load-start" not in page
    assert client.post(f"{LIST}start/", ASKED).status_code == 403
    test = LoadTest.objects.create(target=TARGET, users=1, seconds=1)
    assert "/stop/" not in client.get(f"{LIST}{test.pk}/change/").content.decode()
    assert client.post(f"{LIST}{test.pk}/stop/").status_code == 403


def test_one_is_stopped_once(client, staff):
    staff("view", "change")
    waits = LoadTest.objects.create(target=TARGET, users=1, seconds=1)
    runs = LoadTest.objects.create(target=TARGET, users=1, seconds=1, state="running")
    for test in (waits, runs):
        assert "is to stop" in told(client.post(f"{LIST}{test.pk}/stop/", follow=True))
        test.refresh_from_db()
    assert (waits.state, runs.state, runs.stop_asked) == ("stopped", "running", True)
    assert "nothing to stop" in told(client.post(f"{LIST}{waits.pk}/stop/", follow=True))
    assert client.post(f"{LIST}999999/stop/").status_code == 404


def test_its_page_in_each_state(client, staff):
    staff("view", "change")
    progress = {"users": 20, "requests": 1234, "errors": 0, "requests_per_s": 35.5, "p99_ms": 12}
    for state, verdict, says in (
        ("running", "", "Right now"),
        ("done", "met", "All criteria were met"),
        ("done", "missed", "p99 120 ms is not below 100"),
        ("done", "invalid", "nothing is known of the site"),
        ("failed", "", "locust ended"),
        ("lost", "", "Its worker vanished"),
        ("stopped", "", "stopped before its time"),
    ):
        test = LoadTest.objects.create(
            target=TARGET, users=20, seconds=60, state=state, verdict=verdict, progress=progress,
            reasons=["p99 120 ms is not below 100"] if verdict == "missed" else [],
            note="locust ended with exit code 2." if state == "failed" else "",
            lines=["a line <b>"],
        )  # fmt: skip
        page = client.get(f"{LIST}{test.pk}/change/").content.decode()
        assert says in page, state
        assert "1,234" in page
        assert "a line &lt;b&gt;" in page
        assert ('http-equiv="refresh"' in page) == (state == "running")
        if state == "running":
            test.delete()
    assert client.get(f"{LIST}999999/change/").status_code in (302, 404)
