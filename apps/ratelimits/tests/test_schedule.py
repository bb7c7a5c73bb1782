"""What is due from time to time: by Celery beat, or by cron."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import pytest
from celery import current_app
from django.core.management import CommandError, call_command
from django.test import Client
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import ModelEntry

from apps.ratelimits import tasks
from apps.ratelimits.engine import forget_engine
from apps.ratelimits.models import LimitRollUp, RateLimit, SweepRun
from apps.ratelimits.schedule import BEAT_SCHEDULE


def test_each_entry_names_a_task():
    known = {task.name for task in vars(tasks).values() if hasattr(task, "delay")}
    assert {entry["task"] for entry in BEAT_SCHEDULE.values()} <= known


@pytest.mark.django_db
def test_in_the_settings_it_doubles_no_row_that_migrate_made():
    made = set(PeriodicTask.objects.filter(task__startswith="ratelimits.").values_list("name"))
    for name, entry in BEAT_SCHEDULE.items():
        ModelEntry.from_entry(name, app=current_app, **entry)
    rows = PeriodicTask.objects.filter(task__startswith="ratelimits.")
    assert made < set(rows.values_list("name"))
    assert sorted(rows.values_list("task", flat=True)) == sorted(
        entry["task"] for entry in BEAT_SCHEDULE.values()
    )
    sweep = rows.get(task="ratelimits.sweep")
    assert (str(sweep.crontab.minute), json.loads(sweep.kwargs)["every_s"]) == ("*/5", 3_600)


def upkeep() -> dict[str, object]:
    said = StringIO()
    call_command("ratelimit", "upkeep", "--json", stdout=said)
    return json.loads(said.getvalue())


def test_cron_does_what_beat_does(engine, redis_client):
    limit = RateLimit.objects.create(name="all", quota=100)
    engine.refresh()
    Client().get("/")
    engine.flush_usage()
    redis_client.delete(engine.limiter.keys.ruleset)
    first = upkeep()
    assert first["published"] is True
    assert first["swept"] == 0
    assert LimitRollUp.objects.filter(limit_id=limit.pk, allowed=1).exists()
    assert engine.store.version() is not None
    # The sweep is done once an hour.
    assert upkeep() == {"published": False, "rolled_up": 0, "swept": None}
    assert SweepRun.objects.count() == 1


def test_cron_is_told_where_redis_is_away(settings, transactional_db):
    away = replace(settings.IOTA_RATELIMITS, redis_url="redis://127.0.0.1:1/0")
    settings.IOTA_RATELIMITS = away
    forget_engine()
    with pytest.raises(CommandError, match="Redis does not answer"):
        call_command("ratelimit", "upkeep", stdout=StringIO())
