"""The start page: a card for each part, green only where all is known and well."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from apps.benchmarks.models import Regression
from apps.benchmarks.tests import history
from apps.monitoring import alerting, turns
from apps.monitoring.models import Diagnosis, Turn
from apps.monitoring.tests import watched
from apps.ratelimits.models import SweepRun
from iota import urls as urls
from iota.start import CARDS, start_page

pytestmark = pytest.mark.django_db


def cards(rf, user) -> dict[str, tuple[str, str]]:
    request = rf.get("/admin/")
    request.user = user
    return {card.title: (card.level, card.text) for card in start_page(request, {})["cards"]}


def well(of_s: float = 0) -> None:
    """All parts have said that nothing is wrong."""
    now = timezone.now()
    Turn.objects.update_or_create(job=turns.SAMPLE, defaults={"ended_at": now})
    node = watched.source()
    node.looked_at = node.answered_at = now
    node.save()
    node.samples.create(at=now, values=dict.fromkeys(watched_figures(), 1))
    alerting.evaluate_all(now)
    SweepRun.objects.create(
        state="done", is_last=True, started_at=now, ended_at=now, trigger="schedule"
    )
    Diagnosis.objects.create(state="done", ended_at=now)


def watched_figures() -> tuple[str, ...]:
    from apps.monitoring.admin.standing import OF_A_NODE

    return OF_A_NODE


def test_a_new_site_is_unknown_and_not_fine(rf, admin_user):
    found = cards(rf, admin_user)
    assert list(found) == ["Alerts", "Health", "Doctor", "Clean-up", "Benchmarks"]
    levels = {title: level for title, (level, _) in found.items()}
    assert levels.pop("Benchmarks") == "fine"
    assert set(levels.values()) == {"unknown"}


def test_where_all_is_well_all_is_green(rf, admin_user):
    well()
    assert {level for level, _ in cards(rf, admin_user).values()} == {"fine"}


def test_what_is_wrong_is_named(rf, admin_user):
    well()
    now = timezone.now()
    node = watched.source()
    watched.only("memory_percent", for_s=0)
    node.samples.create(at=now + timedelta(milliseconds=1), values={"memory_percent": 97})
    alerting.evaluate_all(now + timedelta(milliseconds=1))
    finding = {"level": "warning", "what": "slow"}
    Diagnosis.objects.update(outcomes=[{"findings": [finding, finding]}])
    SweepRun.objects.update(state="failed")
    metric = history.metric("check")
    (run,) = history.runs(1)
    Regression.objects.create(
        metric=metric, machine=run.machine, branch="main", run=run, ratio=2, state="confirmed",
        evidence={},
    )  # fmt: skip
    found = cards(rf, admin_user)
    assert {level for level, _ in found.values()} == {"bad"}
    assert found["Alerts"][1].startswith("1 firing: Redis: memory")
    assert "Memory too high" in found["Health"][1]
    assert found["Doctor"][1] == "2 warnings."
    assert found["Clean-up"][1] == "The last run has failed."
    assert found["Benchmarks"][1] == "1 confirmed regression to be looked at."


def test_old_news_are_no_good_news(rf, admin_user):
    well()
    long_ago = timezone.now() - timedelta(hours=7)
    SweepRun.objects.update(started_at=long_ago, ended_at=long_ago)
    Turn.objects.update(ended_at=long_ago)
    from apps.monitoring.models import RuleState

    RuleState.objects.update(evaluated_at=long_ago)
    found = cards(rf, admin_user)
    assert found["Clean-up"] == ("bad", "It does not keep up: the last whole pass is old.")
    assert found["Health"] == ("bad", "Nobody is looking: what is shown is old.")
    assert found["Alerts"][0] == "unknown"


@pytest.mark.parametrize("permission", [permission for permission, _ in CARDS])
def test_each_card_has_its_permission(client, permission):
    user = User.objects.create_user("ada", is_staff=True)
    client.force_login(user)
    assert "start-card" not in client.get("/admin/").text
    app, codename = permission.split(".")
    user.user_permissions.add(
        Permission.objects.get(content_type__app_label=app, codename=codename)
    )
    assert client.get("/admin/").text.count('class="start-card ') == 1
