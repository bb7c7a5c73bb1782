"""What a load test may be, whose turn it is, and what the limits in force promise it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.benchmarks import load_testing
from apps.benchmarks.load_test import LoadTest
from apps.benchmarks.models import BenchmarkRun
from apps.benchmarks.promised import rows
from apps.benchmarks.recording import Busy
from apps.ratelimits.policy.matching import compile_ruleset
from apps.ratelimits.policy.rules import (
    Algorithm,
    CountedBy,
    Mode,
    Override,
    OverrideAction,
    Rate,
    Rule,
    Ruleset,
)
from loadtests.promises import promises

TARGET = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _targets(settings):
    settings.IOTA_LOADTEST_TARGETS = (TARGET,)
    settings.IOTA_LOADTEST_MAX_USERS = 20
    settings.IOTA_LOADTEST_MAX_SECONDS = 30


def made(**values) -> LoadTest:
    return LoadTest.objects.create(**{"target": TARGET, "users": 2, "seconds": 1, **values})


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ((TARGET, 20, 30), ""),
        (("http://127.0.0.1:99", 2, 2), "not in IOTA_LOADTEST_TARGETS"),
        ((f"{TARGET}@evil.example", 2, 2), "not in IOTA_LOADTEST_TARGETS"),
        ((TARGET, 21, 2), "use 1 to 20"),
        ((TARGET, 0, 2), "use 1 to 20"),
        ((TARGET, 2, 31), "use 1 to 30"),
    ],
)
def test_only_what_the_configuration_allows(asked, why):
    assert why in load_testing.refusal(*asked)
    assert bool(why) == bool(load_testing.refusal(*asked))


@pytest.mark.django_db
def test_what_is_no_longer_allowed_when_its_turn_comes_fails(settings):
    test = made()
    settings.IOTA_LOADTEST_TARGETS = ()
    load_testing.perform(test)
    test.refresh_from_db()
    assert (test.state, test.run) == ("failed", None)
    assert "IOTA_LOADTEST_TARGETS" in test.note


@pytest.mark.django_db
def test_it_waits_for_another_one_and_for_a_benchmark():
    test, other = made(), made(state="running")
    with pytest.raises(Busy):
        load_testing.perform(test)
    other.delete()
    BenchmarkRun.objects.create(trigger="staff", state="running")
    with pytest.raises(Busy):
        load_testing.perform(test)
    test.refresh_from_db()
    assert test.state == "queued"


@pytest.mark.django_db
def test_one_that_does_not_wait_is_left_alone():
    test = made(state="stopped")
    load_testing.perform(test)
    test.refresh_from_db()
    assert test.state == "stopped"


@pytest.mark.django_db
def test_one_without_a_sign_of_life_is_lost():
    now = timezone.now()
    dead = made(state="running", seen_at=now - timedelta(minutes=5))
    old = made(queued_at=now - timedelta(days=3))
    waits = made()
    assert load_testing.mark_lost() == 2
    states = [one.state for one in (dead, old, waits) if one.refresh_from_db() is None]
    assert states == ["lost", "lost", "queued"]


def test_the_limits_in_force_are_read_back_as_what_they_promise():
    bucket = Rate(Algorithm.TOKEN_BUCKET, 100, 60_000_000, 20, cost=2)
    per_key = Rate(Algorithm.SLIDING_LOG, 5, 1_500_000, 5)
    kept = Override("user", "7", OverrideAction.UNLIMITED)
    rules = (
        Rule(1, "bucket", bucket, methods=frozenset({"GET"})),
        Rule(2, "key", per_key, counted_by=(CountedBy.HEADER,), header="x-api-key", lease=0),
        Rule(3, "shadow", bucket, mode=Mode.SHADOW),
        Rule(4, "excepted", bucket, overrides=(kept,)),
    )
    found = promises(rows(compile_ruleset(Ruleset(version=1, rules=rules))))
    assert list(found) == ["bucket", "key"]
    one, two = found.values()
    assert (one.quota, one.burst, one.window_s, one.methods) == (50, 10, 60, frozenset({"GET"}))
    assert (two.algorithm, two.window_s, two.counted_by) == ("sliding_log", 1.5, ("header",))
    assert one.exact
    assert two.exact
