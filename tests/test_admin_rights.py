"""Each page of the admin, asked by each kind of person: who gets it, and whose POST does anything.

``tests/admin_pages.py`` is the table; the pages are found in the admin's own addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse
from django.utils import timezone
from django_celery_beat import models as beat

from apps.benchmarks.models import Annotation, LoadTest, Regression
from apps.benchmarks.tests import history as benchmarks
from apps.monitoring.metrics import Kind
from apps.monitoring.models import Alert, AlertRule, Channel, Diagnosis, Sample, Silence, Source
from apps.ratelimits.groups import EDITORS, PUBLISHERS, VIEWERS
from apps.ratelimits.models import Override, RateLimit, SweepRun
from apps.ratelimits.testing import no_rate_limits  # noqa: F401  (a fixture)

from .admin_pages import EVERY, MODELS, Page, Who

ADD_A_LINE = """
{missing} in the admin without a line in tests/admin_pages.py: {names}.
Add one, so that who may see and do what is decided on purpose and tested:
  a model's pages:  MODELS["app_model"] = Model(see=VIEWER, add=EDITOR, change=EDITOR)
  any other page:   PAGES["url_name"] = Page(see=VIEWER, do=EDITOR), or button(PUBLISHER)
Rights of the three groups are given in apps/ratelimits/migrations/0012_rights.py, later ones by a
migration of their own that calls apps.ratelimits.groups.make.
"""
GROUPS = {Who.VIEWER: VIEWERS, Who.EDITOR: EDITORS, Who.PUBLISHER: PUBLISHERS}
PEOPLE = [who for who in Who if who is not Who.NOBODY]


def patterns(found: Any) -> Iterator[URLPattern]:
    for pattern in found:
        if isinstance(pattern, URLResolver):
            yield from patterns(pattern.url_patterns)
        elif pattern.name:
            yield pattern


def names() -> set[str]:
    """Of all pages of the admin; those without one only send on to another."""
    import iota.urls  # noqa: F401  (replaces the pages of users and groups)

    return {pattern.name for pattern in patterns(admin.site.urls[0])}


def test_every_page_of_the_admin_is_in_the_table():
    missing = sorted(names() - set(EVERY))
    assert not missing, ADD_A_LINE.format(missing=len(missing), names=", ".join(missing))
    assert not set(EVERY) - names(), f"No longer in the admin: {sorted(set(EVERY) - names())}"


@pytest.fixture
def rows(engine, no_rate_limits) -> dict[str, Any]:  # noqa: F811
    """One of each model."""
    now = timezone.now()
    limit = RateLimit.objects.create(name="quiet", quota=5, mode="shadow")
    limit.quota = 6
    limit.save()
    override = Override.objects.create(limit=limit, network="192.0.2.0/24", action="unlimited")
    override.reason = "partners"
    override.save()
    source = Source.objects.create(
        kind=Kind.NODE, address="127.0.0.1:1", first_seen_at=now, looked_at=now
    )
    rule = AlertRule.objects.first()
    (run, _) = benchmarks.runs(2)
    metric = benchmarks.metric()
    of_alert = {"of": "127.0.0.1:1", "metric": rule.metric, "severity": "warning"}
    made = {
        "ratelimits_ratelimit": limit,
        "ratelimits_override": override,
        "ratelimits_sweeprun": SweepRun.objects.create(trigger="staff"),
        "monitoring_alert": Alert.objects.create(
            rule=rule, source=source, direction="above", threshold=1, pending_since=now, **of_alert
        ),
        "monitoring_alertrule": rule,
        "monitoring_channel": Channel.objects.first(),
        "monitoring_diagnosis": Diagnosis.objects.create(state="done", ended_at=now),
        "monitoring_sample": Sample.objects.create(source=source, at=now),
        "monitoring_source": source,
        "monitoring_silence": Silence.objects.create(until=now + timedelta(hours=1), reason="why"),
        "benchmarks_annotation": Annotation.objects.create(text="a note"),
        "benchmarks_benchmarkrun": run,
        "benchmarks_loadtest": LoadTest.objects.create(target="http://a.test", users=1, seconds=1),
        "benchmarks_machine": run.machine,
        "benchmarks_metric": metric,
        "benchmarks_regression": Regression.objects.create(
            metric=metric, machine=run.machine, run=run, ratio=1.2
        ),
        "django_celery_beat_periodictask": beat.PeriodicTask.objects.first(),
        "django_celery_beat_clockedschedule": beat.ClockedSchedule.objects.create(clocked_time=now),
        "django_celery_beat_crontabschedule": beat.CrontabSchedule.objects.first(),
        "django_celery_beat_intervalschedule": beat.IntervalSchedule.objects.create(
            every=1, period="days"
        ),
        "django_celery_beat_solarschedule": beat.SolarSchedule.objects.create(
            event="sunrise", latitude=0, longitude=0
        ),
        "auth_user": User.objects.create_user("somebody"),
        "auth_group": Group.objects.create(name="a group"),
    }
    assert set(made) == set(MODELS), "A model of the table has no row here: make one."
    return made


@pytest.fixture
def person(rows):
    def client(who: Who) -> Client:
        made = Client()
        if who is Who.STRANGER:
            return made
        user = User(username=f"a {who.name}", is_staff=True, is_superuser=who is Who.SUPERUSER)
        user.save()
        if who in GROUPS:
            user.groups.add(Group.objects.get(name=GROUPS[who]))
        made.force_login(user)
        return made

    return client


def address(name: str, page: Page, rows: dict[str, Any]) -> str:
    """With the row of the page's model in it, and its first entry where one is asked for."""
    known = {pattern.name: pattern for pattern in patterns(admin.site.urls[0])}[name]
    model = page.of or name.rpartition("_")[0]
    row = rows.get(model)
    if name.endswith("_simple_history"):
        return reverse(f"admin:{name}", args=[row.pk, row.history.last().pk])
    given = {"app_label": "ratelimits", "name": "alerts", "content_type_id": 1}
    keys = known.pattern.converters or known.pattern.regex.groupindex
    return reverse(f"admin:{name}", kwargs={key: given.get(key, row and row.pk) for key in keys})


def query(name: str, rows: dict[str, Any]) -> str:
    return f"?run={rows['benchmarks_benchmarkrun'].pk}" if name == "benchmarks_compare" else ""


def answer(client: Client, method: str, url: str, data: Any) -> int:
    """Whatever it does is undone, a log-out too."""
    asking = Client()
    asking.cookies = deepcopy(client.cookies)
    with transaction.atomic():
        response = asking.post(url, data) if method == "POST" else asking.get(url)
        transaction.set_rollback(True)
    if response.status_code == 302 and "/login/" in response.headers["Location"]:
        return 401
    return response.status_code


def expected(who: Who, page: Page, method: str) -> set[int]:
    least, status = (page.see, page.get) if method == "GET" else (page.do, page.post)
    if page.signed_in and who > Who.STRANGER:
        status = page.signed_in[method == "POST"]
    if who >= least:
        return {status}
    if who is Who.STRANGER:
        return {401, 405} if status == 405 else {401}
    return {page.refused}


@pytest.mark.parametrize("who", PEOPLE, ids=lambda who: who.name.lower())
def test_each_page_answers_as_the_table_says(who, person, rows):
    client = person(who)
    wrong = []
    for name, page in EVERY.items():
        url = address(name, page, rows) + query(name, rows)
        for method in ("GET", "POST"):
            got = answer(client, method, url, dict(page.data))
            wanted = expected(who, page, method)
            if got not in wanted:
                said = " or ".join(map(str, sorted(wanted)))
                wrong.append(f"{method} {url} ({name}): {got}, the table says {said}")
    assert not wrong, "\n".join([f"as {who.name.lower()} (401: sent to the log-in):", *wrong])
