"""The health page: what it says, what it must never say, and to whom."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
from django.apps import apps as django_apps
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.monitoring.admin import health, standing
from apps.monitoring.metrics import Unit
from apps.monitoring.models import Source
from apps.monitoring.tests import watching

pytestmark = pytest.mark.django_db
PAGE = "/admin/monitoring/source/health/"


@pytest.fixture
def staff(engine, admin_client):
    return admin_client


@pytest.fixture
def limits(monkeypatch):
    """Thresholds as alert rules would give them."""

    def of(**found: float) -> None:
        monkeypatch.setattr(health, "thresholds", lambda metrics: found)

    return of


def make_limit(name: str) -> None:
    django_apps.get_model("ratelimits", "RateLimit").objects.create(name=name, quota=10)


def text(response) -> str:
    assert response.status_code == 200
    return response.content.decode()


def cells(response, address: str = "10.0.0.1:6379") -> dict[str, standing.Cell]:
    (row,) = [row for row in response.context["rows"] if row.source.address == address]
    return {cell.metric.name: cell for cell in row.cells}


def drawn(response, metric: str) -> dict[str, list[dict]]:
    (one,) = [one for one in response.context["charts"] if one.metric.name == metric]
    return {each["label"]: each["data"] for each in json.loads(one.data)["datasets"]}


def test_an_empty_page_says_how_to_begin(staff):
    said = text(staff.get(PAGE))
    assert "Nothing has been looked at yet." in said
    assert "celery --app iota worker --queues monitoring --concurrency 1" in said
    assert "Here will be a row for each server" in said
    assert "health-unknown" in said
    assert "health-fine" not in said


def test_all_known_and_all_well_is_green(staff, limits):
    limits(memory_percent=90.0)
    for kind, address, values in [
        ("node", "10.0.0.1:6379", watching.NODE),
        ("limiter", "", watching.LIMITER),
        ("broker", "queue:6379", watching.QUEUES),
    ]:
        watching.sample(watching.source(kind, address), values)
    watching.looked()
    response = staff.get(PAGE)
    assert response.context["verdict"] == ("fine", "Nothing to do.")
    said = text(response)
    for figure in ("70 %", "1.40 GiB", "23.4 %", "12,345/s", "180 us", "4.12 %", "Valkey 9.1.2"):
        assert figure in said, figure
    for figure in ("812/s", "870 us", "0.02 %", "21 ms"):
        assert figure in said, figure
    # Where no rule says what would be too much, nothing more than an answer is claimed.
    assert [row.said for row in response.context["rows"]] == ["fine", "answers", "answers"]
    # A primary without replicas has no lag, which is neither fine nor unknown.
    assert cells(response)["replication_lag_s"].state == "none"


def test_what_is_unknown_is_never_green_and_has_its_reason(staff):
    why = "INFO: this user has no permissions to run the 'info' command"
    source = watching.source(unknown={"memory_percent": why})
    watching.sample(source, {**watching.NODE, "memory_percent": None})
    watching.looked()
    response = staff.get(PAGE)
    level, said = response.context["verdict"]
    assert (level, said) == ("unknown", "Nothing is wrong that is known; 1 of 1 partly unknown.")
    assert cells(response)["memory_percent"].state == "unknown"
    assert why.replace("'", "&#x27;") in text(response)
    assert "health-fine" not in text(response)


def test_over_the_threshold_is_said_with_a_sign_and_drawn(staff, limits):
    limits(memory_percent=60.0, cpu_percent=80.0)
    watching.sample(watching.source(), watching.NODE, 30)
    watching.looked()
    response = staff.get(PAGE)
    assert response.context["verdict"][0] == "bad"
    assert "10.0.0.1:6379: Memory too high." in text(response)
    assert cells(response)["memory_percent"].state == "over"
    assert cells(response)["cpu_percent"].state == "fine"
    line = drawn(response, "memory_percent")["Alert above 60 %"]
    assert {dot["y"] for dot in line} == {60.0}
    assert "alert above 60 %" in text(response)
    assert "Alert" not in " ".join(drawn(response, "ops_per_s"))


def test_a_lost_replica_is_a_problem_whatever_the_lag(staff):
    values = {**watching.NODE, "replication_lag_s": 0.0, "replicas_lost": 1.0}
    watching.sample(watching.source(), values)
    watching.looked()
    cell = cells(staff.get(PAGE))["replication_lag_s"]
    assert cell.state == "over"
    assert cell.beside == "1 lost"


def test_old_figures_are_not_shown_as_those_of_now(staff):
    long_ago = timezone.now() - timedelta(minutes=5)
    watching.sample(watching.source(answered_at=long_ago, looked_at=long_ago), watching.NODE)
    watching.looked(300)
    response = staff.get(PAGE)
    assert response.context["verdict"] == ("bad", "Nobody is looking: what is shown is old.")
    assert {cell.state for cell in cells(response).values()} == {"unknown"}
    assert "nobody has looked for over a minute" in text(response)


def test_one_that_does_not_answer_and_one_that_is_gone(staff):
    silent = watching.source(error="TimeoutError: Timeout reading from socket")
    watching.sample(silent, watching.NODE)
    gone = watching.source("node", "10.0.0.2:6379", gone_at=timezone.now())
    watching.sample(gone, watching.NODE)
    watching.looked()
    response = staff.get(PAGE)
    assert response.context["verdict"] == ("bad", "10.0.0.1:6379: does not answer.")
    assert "Timeout reading from socket" in text(response)
    rows = [(row.source.address, row.said) for row in response.context["rows"]]
    assert rows == [("10.0.0.1:6379", "does not answer"), ("10.0.0.2:6379", "gone")]
    # It is no news: what left on purpose makes nothing worse.
    silent.delete()
    assert staff.get(PAGE).context["verdict"][0] == "fine"


@pytest.mark.parametrize("period", ["hour", "day", "week"])
def test_charts_and_table_have_the_same_figures(staff, period):
    source = watching.source()
    watching.sample(source, watching.NODE, 400)
    watching.coarse(source, watching.NODE, 60, 1_440)
    watching.coarse(source, watching.NODE, 600, 1_008)
    watching.looked()
    response = staff.get(f"{PAGE}?source={source.pk}&period={period}")
    dots = [dot for dot in drawn(response, "memory_percent")["Mean"] if dot["y"] is not None]
    assert 100 < len(dots) <= 241
    assert max(dot["y"] for dot in dots) == pytest.approx(70, abs=3)
    (at, first), *_ = response.context["points"]
    place = [one.metric.name for one in response.context["charts"]].index("memory_percent")
    assert first[place] == dots[-1]["said"][0]
    assert round(at.timestamp() * 1000) == dots[-1]["x"]
    assert len(response.context["points"]) == 60


def test_gaps_are_gaps(staff):
    source = watching.source()
    watching.sample(source, watching.NODE, 2)
    watching.looked()
    mean = drawn(staff.get(PAGE), "memory_percent")["Mean"]
    assert {dot["y"] is None for dot in mean} == {True, False}
    assert sum(dot["y"] is not None for dot in mean) <= 2


def test_edits_of_limits_stand_beside(staff):
    watching.sample(watching.source(), watching.NODE, 100)
    make_limit("tight")
    response = staff.get(PAGE)
    assert "tight made" in text(response)
    said = [
        dot["said"][0] for dot in drawn(response, "cpu_percent")["Limits edited"] if "said" in dot
    ]
    assert said == ["tight made"]


def test_text_from_outside_is_escaped(staff):
    bad = "</script><b>x"
    watching.sample(
        watching.source("node", bad, server=bad, unknown={"keys": bad}, notes={"cpu_percent": bad}),
        watching.NODE,
    )
    watching.source("node", "b:1", error=bad)
    assert bad not in text(staff.get(PAGE))


def test_nonsense_in_the_address_is_no_error(staff):
    watching.sample(watching.source(), watching.NODE)
    assert text(staff.get(f"{PAGE}?source=nonsense&period=century"))


def person(client, *names: str) -> None:
    user = User.objects.create_user("ada", password="a long one for tests", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)


def test_it_is_for_those_who_may_see_sources(engine, client):
    assert client.get(PAGE).headers["Location"].startswith("/admin/login/")
    person(client, "view_sample")
    assert client.get(PAGE).status_code == 403
    User.objects.all().delete()
    person(client, "view_source")
    make_limit("hush-hush")
    watching.sample(watching.source(), watching.NODE)
    # The names of limits are for those who may see limits.
    assert "hush-hush" not in text(client.get(PAGE))


def test_sources_and_samples_are_read_only(staff):
    source = watching.source()
    watching.sample(source, watching.NODE)
    (kept,) = source.samples.all()
    for page in (f"source/{source.pk}", f"sample/{kept.pk}"):
        shown = f"/admin/monitoring/{page}/change/"
        assert 'name="_save"' not in text(staff.get(shown))
        assert staff.post(shown, {"address": "x"}).status_code == 403
        assert staff.post(shown.replace("change", "delete"), {"post": "yes"}).status_code == 403
    assert '"cpu_percent": 23.4' in text(
        staff.get(f"/admin/monitoring/sample/{kept.pk}/change/")
    ).replace("&quot;", '"')
    for page in ("source", "sample"):
        assert staff.get(f"/admin/monitoring/{page}/").status_code == 200
        assert staff.get(f"/admin/monitoring/{page}/add/").status_code == 403
    assert Source.objects.get().address == source.address


def test_it_costs_few_queries_and_little_time_whatever_is_kept(staff):
    for n in range(6):
        source = watching.source("node", f"10.0.0.{n}:6379")
        watching.sample(source, watching.NODE, 360)
        watching.coarse(source, watching.NODE, 600, 2_000)
    watching.looked()
    staff.get(PAGE)
    with CaptureQueriesContext(connection) as asked:
        began_s = time.perf_counter()
        assert staff.get(f"{PAGE}?period=week").status_code == 200
        took_s = time.perf_counter() - began_s
    assert len(asked) < 25
    assert took_s < 3, took_s  # of a noisy machine


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.0, Unit.PERCENT, "0 %"),
        (0.004, Unit.PERCENT, "< 0.01 %"),
        (99.95, Unit.PERCENT, "100 %"),
        (1_536.0, Unit.BYTES, "1.50 KiB"),
        (900.0, Unit.BYTES, "900 bytes"),
        (1_234.0, Unit.US, "1.23 ms"),
        (2_500_000.0, Unit.US, "2.50 s"),
        (12_345.678, Unit.PER_S, "12,346/s"),
        (None, Unit.S, "unknown"),
    ],
)
def test_figures_have_units_and_thousands(value, unit, words):
    assert standing.shown(value, unit) == words
