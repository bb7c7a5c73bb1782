"""Runs of the sweeper: recorded, one at a time, each going on where the last one ended."""

from __future__ import annotations

import json
import os
import sys
import threading
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.ratelimits import clean_up, tasks
from apps.ratelimits.models import Override, RateLimit, RulesetVersion, SweepRun
from apps.ratelimits.ruleset import load
from apps.ratelimits.storage.limiter import Target

from .limiters import A, B

State = SweepRun.State


def age_edits() -> None:
    """As if the last edit were of an hour ago: all processes have heard of it."""
    RulesetVersion.objects.update(version=RulesetVersion.current() - 3_600_000_000)


@pytest.fixture
def limits(engine):
    """Two limits, and one that is deleted, each with two identities counted."""
    names = "one", "two", "gone"
    made = [RateLimit.objects.create(name=name, quota=5, window_unit=3_600) for name in names]
    rules = {limit.name: limit for limit in load().rules}
    for who in (A, B):
        engine.limiter.check([Target(rule, who) for rule in rules.values()])
    made[-1].delete()
    age_edits()
    engine.store._client.delete("iota:ruleset")
    engine.publish()
    return rules


def sweep(**options) -> SweepRun:
    return clean_up.sweep("command", **options)


def test_a_run_says_what_it_did(engine, limits):
    run = sweep()
    assert (run.state, run.is_last, run.seen, run.records) == ("done", True, 2, 2)
    assert run.removed == {}
    assert run.freed_bytes > 0
    assert run.ended_at >= run.started_at
    assert run.identities == {str(limit.id): 2 for limit in limits.values()}
    (place,) = run.places
    assert (place["done"], place["seen"], place["error"]) == (True, 2, "")
    assert engine.limiter.peek([Target(limits["one"], A)]).remaining == 4
    assert engine.limiter.peek([Target(limits["gone"], A)]).remaining == 5


def test_the_counts_of_deleted_limits_leave_the_usage(engine, limits):
    gone, stays = limits["gone"].id, limits["one"].id
    engine.usage.add("a", 1, {f"limit:{gone}:allowed": 7, f"limit:{stays}:allowed": 5})
    sweep(dry_run=True)
    assert set(engine.usage.read().limits) == {gone, stays}
    assert sweep().state == "done"
    usage = engine.usage.read()
    assert (set(usage.limits), usage.limits[stays].allowed) == ({stays}, 5)


def test_a_limit_that_is_off_keeps_what_it_counts(engine, limits):
    RateLimit.objects.filter(name="one").update(mode="off")
    age_edits()
    engine.store._client.delete("iota:ruleset")
    engine.publish()
    sweep()
    assert engine.limiter.peek([Target(limits["one"], A)]).remaining == 4


def test_the_highest_number_ever_given_comes_from_the_change_history(limits):
    known = clean_up.known_limits()
    assert known.highest == limits["gone"].id
    assert set(known.epochs) == {limits["one"].id, limits["two"].id}
    assert clean_up.known_limits(known) is known
    RateLimit.objects.create(name="new", quota=1)
    assert clean_up.known_limits(known).highest > known.highest


def test_an_edit_of_just_now_removes_nothing_yet(engine, limits):
    RateLimit.objects.filter(name="one").delete()
    run = sweep()
    assert (run.records, run.state) == (0, "done")


def test_the_next_run_goes_on_and_then_begins_anew(engine, limits):
    first = sweep(budget_s=1e-9)
    assert (first.state, first.is_last, first.seen) == ("done", False, 0)
    second = sweep()
    assert (second.pass_number, second.is_last, second.seen) == (first.pass_number, True, 2)
    assert sweep().pass_number == first.pass_number + 1


def test_a_dry_run_has_a_pass_of_its_own(engine, limits):
    sweep(budget_s=1e-9)
    dry = sweep(dry_run=True)
    assert (dry.pass_number, dry.records, dry.is_last) == (1, 2, True)
    assert sweep().records == 2


def test_a_cursor_of_64_bits_survives(engine, limits):
    first = sweep(budget_s=1e-9)
    place = {**first.places[0], "cursor": str(2**64 - 1), "done": True}
    SweepRun.objects.filter(pk=first.pk).update(places=[place])
    assert sweep().places[0]["cursor"] == str(2**64 - 1)


def test_one_run_at_a_time(engine, limits):
    other = SweepRun.objects.create(trigger="schedule")
    with pytest.raises(clean_up.Busy, match=f"sweep {other.pk} is under way"):
        sweep()
    assert tasks.sweep() is False
    with pytest.raises(IntegrityError), transaction.atomic():
        SweepRun.objects.create(trigger="schedule")
    assert SweepRun.objects.count() == 1


def test_a_run_whose_process_died_is_lost_and_the_next_goes_on(engine, limits):
    first = sweep(budget_s=1e-9)
    long_ago = timezone.now() - timedelta(minutes=5)
    SweepRun.objects.filter(pk=first.pk).update(state=State.RUNNING, seen_at=long_ago)
    run = sweep()
    first.refresh_from_db()
    assert first.state == "lost"
    assert (run.state, run.pass_number, run.is_last) == ("done", first.pass_number, True)


def test_staff_can_stop_it(engine, limits):
    def stop(run):
        SweepRun.objects.update(state=State.STOPPED)

    run = sweep(report=stop)
    # It was told by the last report: what it had done stays done.
    assert run.state == "stopped"


def test_where_redis_is_away_the_run_fails_and_says_so(engine, limits, settings):
    away = "redis://:secret@127.0.0.1:1/0"
    settings.IOTA_RATELIMITS = _with(settings.IOTA_RATELIMITS, redis_sweeper_url=away)
    run = sweep()
    assert run.state == "failed"
    assert "Connection refused" in run.error
    assert "secret" not in run.error


def _with(config, **changes):
    from dataclasses import replace

    return replace(config, **changes)


def test_a_mistake_of_ours_leaves_no_run_running(engine, limits, monkeypatch):
    def broken(last=None):
        raise ValueError("a mistake")

    monkeypatch.setattr(clean_up, "known_limits", broken)
    run = sweep()
    assert (run.state, run.error) == ("failed", "ValueError: a mistake")


def test_a_scheduled_pass_begins_once_the_last_began_long_enough_ago(engine, limits):
    assert tasks.sweep(budget_s=1e-9)
    assert tasks.sweep(budget_s=10)  # It was not at its end.
    assert tasks.sweep(every_s=3_600) is False
    assert SweepRun.objects.count() == 2
    SweepRun.objects.update(started_at=timezone.now() - timedelta(hours=2))
    assert tasks.sweep(every_s=3_600)
    assert tasks.sweep(every_s=3_600, trigger="staff")


def test_overrides_that_ended_a_month_ago_go_and_their_history_stays(engine, limits):
    now = timezone.now()
    for days, network in ((31, "203.0.113.0/24"), (29, "198.51.100.0/24"), (-1, "192.0.2.0/24")):
        until = now - timedelta(days=days)
        Override.objects.create(network=network, action="unlimited", until=until)
    Override.objects.create(network="10.0.0.0/8", action="unlimited")
    assert sweep(dry_run=True).overrides == 1
    assert Override.objects.count() == 4
    version = RulesetVersion.current()
    assert sweep().overrides == 1
    assert not Override.objects.filter(network="203.0.113.0/24").exists()
    assert Override.objects.count() == 3
    gone = Override.history.filter(network="203.0.113.0/24", history_type="-")
    assert gone.count() == 1
    assert engine.store.version() > version


def test_only_so_many_runs_are_kept(engine, limits, monkeypatch):
    monkeypatch.setattr(clean_up, "KEEP_RUNS", 3)
    runs = [sweep() for _ in range(5)]
    assert set(SweepRun.objects.values_list("pk", flat=True)) == {run.pk for run in runs[2:]}
    long_ago = timezone.now() - timedelta(days=100)
    SweepRun.objects.update(started_at=long_ago)
    assert clean_up.forget_old_runs() == 2
    # The newest says where the next one goes on.
    assert SweepRun.objects.get().pk == runs[-1].pk


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("sweep", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_says_what_it_did(engine, limits):
    said = command("--dry-run")
    assert "2 keys of limits seen" in said
    assert "2 records of limits that are gone, in buckets that stay would be removed" in said
    assert f"limit {limits['gone'].id}, which is gone" in said
    said = json.loads(command("--json", "--rate", "1000"))
    assert (said["state"], said["records"], said["pass_done"]) == ("done", 2, True)
    assert said["servers"][0]["seen"] == 2
    assert "0 removed" in command()


def test_the_commands_exit_codes(engine, limits, settings):
    assert "To be continued" in command("--budget-s", "0.000001")
    running = SweepRun.objects.create(trigger="staff")
    with pytest.raises(CommandError) as busy:
        command()
    assert busy.value.returncode == 4
    running.delete()
    settings.IOTA_RATELIMITS = _with(
        settings.IOTA_RATELIMITS, redis_sweeper_url="redis://127.0.0.1:1/0"
    )
    with pytest.raises(CommandError, match="failed") as failed:
        command()
    assert failed.value.returncode == 1
    with pytest.raises(CommandError):
        command("--rate", "0")


@pytest.mark.django_db
def test_the_schedule_is_a_row_that_staff_own():
    from django_celery_beat.models import PeriodicTask

    row = PeriodicTask.objects.get(task="ratelimits.sweep")
    assert row.enabled
    assert json.loads(row.kwargs) == {"budget_s": 10, "rate_per_s": 10_000, "every_s": 3_600}
    assert str(row.crontab).startswith("*/5 *")


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority")
def test_a_sweep_steps_back_for_other_work_and_leaves_no_connection(engine, limits):
    priorities = []

    def report(run):
        own = threading.get_native_id()
        priorities.append(os.getpriority(os.PRIO_PROCESS, own))

    sweep(report=report)
    assert set(priorities) == {19}
    assert "ratelimits-background" not in [each.name for each in threading.enumerate()]
