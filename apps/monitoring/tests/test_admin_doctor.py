"""The doctor's page: what it shows, to whom, and what its button does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from apps.monitoring import diagnosing
from apps.monitoring.models import Diagnosis
from apps.monitoring.registry import Topic
from apps.ratelimits.storage.server_findings import Level

pytestmark = pytest.mark.usefixtures("engine")

PAGE = "/admin/monitoring/diagnosis/"
RUN = f"{PAGE}run/"


def staff(client, *names: str) -> User:
    user = User.objects.create_user("ada", password="a long one for tests", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    return user


def row(level: Level, code: str, **texts: str) -> dict[str, str]:
    made = {
        "where": "127.0.0.1:6379",
        "what": f"What of {code}.",
        "evidence": "3 of 4",
        "to_do": "",
    }
    return {"level": level, "code": code, **made, **texts}


def part(topic: Topic, *findings: dict[str, str]) -> dict[str, object]:
    made = {"name": "part", "topic": topic, "title": "A part", "took_s": 0.1}
    return {**made, "findings": list(findings)}


def done(*outcomes: dict[str, object], **more) -> Diagnosis:
    now = timezone.now()
    return Diagnosis.objects.create(
        state="done", started_at=now, ended_at=now, took_s=4.2, outcomes=list(outcomes), **more
    )


def text(response) -> str:
    assert response.status_code == 200
    return response.content.decode()


@pytest.fixture
def wrong():
    return done(
        part(Topic.REDIS, row(Level.INFO, "memory"), row(Level.ERROR, "unreachable")),
        part(
            Topic.LIMITER,
            row(Level.UNKNOWN, "not-known"),
            row(Level.WARNING, "always-denies", to_do="See `manage.py doctor` & <the> limit."),
        ),
        part(Topic.CONFIGURATION, row(Level.INFO, "cache")),
    )


def test_who_may_not_see_it_does_not(client, wrong):
    assert client.get(PAGE).headers["Location"].startswith("/admin/login/")
    assert client.post(RUN).headers["Location"].startswith("/admin/login/")
    staff(client, "view_ratelimit")
    assert client.get(PAGE).status_code == 403
    assert client.post(RUN).status_code == 403


def test_a_viewer_has_no_button_and_who_may_only_run_it_sees_nothing(client, wrong):
    user = staff(client, "view_diagnosis")
    assert RUN not in text(client.get(PAGE))
    assert client.post(RUN).status_code == 403
    user.user_permissions.set(Permission.objects.filter(codename="run_doctor"))
    assert client.get(PAGE).status_code == 403
    assert client.post(RUN).status_code == 403
    assert Diagnosis.objects.count() == 1


def test_the_worst_comes_first_under_the_guides_headings(client, wrong):
    staff(client, "view_diagnosis", "view_ratelimit")
    page = text(client.get(PAGE))
    assert "To be mended, the worst first: 1 error, 1 warning, 1 unknown." in page
    order = [
        *("High Redis latency", "What of unreachable.", "What of memory."),
        *("Rate limiter performance", "What of always-denies.", "What of not-known."),
        *("Configuration performance", "What of cache."),
    ]
    places = [page.index(words) for words in order]
    assert places == sorted(places)
    assert "See <code>manage.py doctor</code> &amp; &lt;the&gt; limit." in page
    assert '<a href="/admin/ratelimits/ratelimit/">Limits</a>' in page


def test_the_page_that_mends_it_is_linked_for_those_who_may_see_it(client, wrong):
    staff(client, "view_diagnosis")
    assert "/admin/ratelimits/ratelimit/" not in text(client.get(PAGE))


def test_nothing_wrong_and_not_all_known_are_told_apart(client):
    staff(client, "view_diagnosis")
    done(part(Topic.REDIS, row(Level.INFO, "memory")))
    page = text(client.get(PAGE))
    assert "Nothing to do" in page
    assert "doctor-verdict doctor-info" in page
    done(part(Topic.REDIS, row(Level.INFO, "memory"), row(Level.UNKNOWN, "not-known")))
    page = text(client.get(PAGE))
    assert "not all could be looked at: 1 unknown" in page
    assert "doctor-verdict doctor-unknown" in page


def test_before_the_first_it_says_how_to_get_one(client):
    staff(client, "view_diagnosis", "run_doctor")
    page = text(client.get(PAGE))
    assert "the doctor has not looked" in page
    assert RUN in page


def test_the_button_queues_one_and_the_page_waits_for_it(client):
    user = staff(client, "view_diagnosis", "run_doctor")
    assert client.get(RUN).status_code == 405
    assert client.post(RUN).headers["Location"] == PAGE
    made = Diagnosis.objects.get()
    assert (made.state, made.requested_by) == ("queued", user)
    page = text(client.get(PAGE))
    assert "Waits for a worker" in page
    assert 'http-equiv="refresh"' in page
    assert RUN not in page
    # Another click makes no other.
    client.post(RUN)
    assert Diagnosis.objects.count() == 1
    assert "at it already" in text(client.get(PAGE))


def test_how_far_it_is_and_the_last_result_are_shown_meanwhile(client, wrong):
    staff(client, "view_diagnosis")
    now = timezone.now()
    Diagnosis.objects.create(
        state="running", started_at=now, seen_at=now, done=3, total=12, current="Memory"
    )
    page = text(client.get(PAGE))
    assert "3 of 12 parts; now: Memory" in page
    assert 'aria-valuenow="25"' in page
    assert "What of unreachable." in page


def test_one_whose_worker_died_is_lost_and_another_can_be_asked_for(client):
    staff(client, "view_diagnosis", "run_doctor")
    long_ago = timezone.now() - timedelta(minutes=10)
    Diagnosis.objects.create(state="running", queued_at=long_ago, seen_at=long_ago)
    page = text(client.get(PAGE))
    assert "Its worker vanished." in page
    assert RUN in page
    client.post(RUN)
    assert [one.state for one in Diagnosis.objects.all()] == ["queued", "lost"]


def test_a_broker_that_is_away_is_said_and_nothing_waits(client, monkeypatch):
    from celery import current_app

    staff(client, "view_diagnosis", "run_doctor")
    monkeypatch.setattr(current_app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    client.post(RUN)
    assert Diagnosis.objects.get().state == "lost"
    assert "broker does not answer" in text(client.get(PAGE))


def test_earlier_ones_can_be_seen_and_what_is_not_there_is_404(client, wrong):
    staff(client, "view_diagnosis")
    done(part(Topic.REDIS, row(Level.INFO, "memory")))
    assert "Nothing to do" in text(client.get(PAGE))
    earlier = text(client.get(f"{PAGE}?id={wrong.pk}"))
    assert "What of unreachable." in earlier
    assert "An earlier one" in earlier
    for wanted in ("x", "999999", "9" * 40, "²"):
        assert client.get(f"{PAGE}?id={wanted}").status_code == 404
    assert client.get(f"{PAGE}{wrong.pk}/change/").headers["Location"] == f"{PAGE}?id={wrong.pk}"


def test_no_more_than_so_many_are_kept():
    for _ in range(Diagnosis.KEEP + 5):
        done()
    Diagnosis.forget_old()
    assert Diagnosis.objects.count() == Diagnosis.KEEP


def test_a_diagnosis_is_made_once():
    made = Diagnosis.objects.create()
    diagnosing.run(made.pk)
    made.refresh_from_db()
    assert made.state == "done"
    assert (made.done, made.total) == (16, 16)
    assert {one["topic"] for one in made.outcomes} == set(Topic)
    first = made.ended_at
    diagnosing.diagnose(made.pk)
    made.refresh_from_db()
    assert made.ended_at == first
