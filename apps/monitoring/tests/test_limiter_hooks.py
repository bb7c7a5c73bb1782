"""Pools, clean-up and request patterns: by a real engine where it can say, and by figures."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from apps.monitoring.hooks import clean_up, connections, requests
from apps.monitoring.hooks.connections import Pools
from apps.monitoring.hooks.requests import judge, over_budget
from apps.ratelimits.policy.rules import Algorithm, Mode, Ruleset
from apps.ratelimits.reading import Sweep
from apps.ratelimits.storage.cardinality import IdentityCount
from apps.ratelimits.storage.heartbeat import Heartbeat
from apps.ratelimits.storage.server_findings import Level
from apps.ratelimits.storage.usage import LimitUsage, Usage
from apps.ratelimits.tests.limiters import rule

from .looking import codes, find, looking

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
DAY_S = 86_400


def of_pools(**figures) -> list[str]:
    whole = {"in_use": (3, 5), "size": 50, "checks": 1_000, "waits": 0, **figures}
    return codes(list(connections.judge(Pools(**whole))))


def test_pools_that_have_room_and_those_that_have_none():
    assert of_pools() == ["pool"]
    assert of_pools(in_use=(3, 45)) == ["pool-busy"]
    assert of_pools(waits=5) == ["pool"]
    assert of_pools(waits=15) == ["pool"]
    assert of_pools(waits=50) == ["pool", "pool-waits"]
    assert of_pools(servers=(("a", 40, 100),)) == ["pool", "pools-over-maxclients"]
    assert of_pools(servers=(("a", 40, 10_000),)) == ["pool"]


def test_pools_that_nobody_tells_of_are_unknown():
    assert of_pools(in_use=()) == ["not-known"]
    assert of_pools(in_use=(None, None), waits=None) == ["not-known", "not-known"]


def test_the_processes_that_serve_are_asked(redis_server, redis_client):
    """Three that beat and may have 4,000 connections each, at a server that takes 10,000."""
    with looking(redis_server.url, redis_max_connections=4_000) as look:
        engine = look.engine
        for _ in range(3):
            Heartbeat(engine.processes, engine.limiter, lambda: 7, host_key=b"h").beat()
        found = list(connections.pool(look))
    (over,) = [one for one in found if one.code == "pools-over-maxclients"]
    assert over.level is Level.WARNING
    assert "3 processes with 4,000 each: 12,000; maxclients 10,000" in over.evidence


def sweep(
    hours_ago: float, state: str = "done", *, whole: bool = True, ended: bool = True
) -> Sweep:
    began = NOW - timedelta(hours=hours_ago)
    return Sweep(began, began + timedelta(seconds=10) if ended else None, state, whole)


@pytest.mark.parametrize(
    ("runs", "code"),
    [
        (None, "not-known"),
        ([], "sweep-never"),
        ([sweep(1)], "sweep"),
        ([sweep(0.1, whole=False), sweep(2)], "sweep"),
        ([sweep(0.1, "running", whole=False, ended=False), sweep(2)], "sweep"),
        ([sweep(2, "running", whole=False, ended=False), sweep(3)], "sweep-long"),
        ([sweep(0.1, "failed", whole=False), sweep(2)], "sweep-failed"),
        ([sweep(0.1, "lost", whole=False), sweep(2)], "sweep-failed"),
        ([sweep(30)], "sweep-old"),
        ([sweep(0.1, whole=False), sweep(40)], "sweep-behind"),
        ([sweep(0.1, whole=False)], "sweep-behind"),
    ],
)
def test_how_the_clean_up_stands(runs, code):
    found = clean_up.judge(runs, NOW)
    assert found.code == code
    assert (found.level is Level.INFO) == (code == "sweep")
    if runs:
        assert "the last run began" in found.evidence


PLAIN = rule(Algorithm.FIXED_WINDOW, 10, number=1)
OTHER = rule(Algorithm.FIXED_WINDOW, 10, number=2)


def of_usage(limits: dict[int, LimitUsage], since_s: float = 3_600, **totals):
    denied = sum(one.denied for one in limits.values())
    usage = Usage(1_000_000, 500, 0, 400, denied, limits=limits, checks=(500,), **totals)
    return {one.code: one for one in judge(usage, (PLAIN, OTHER), 1_000_000 + since_s)}


def test_what_came_is_told_by_limit():
    found = of_usage({1: LimitUsage(300, 40), 2: LimitUsage(100, 60)})
    assert set(found) == {"requests"}
    said = found["requests"].evidence
    assert "500 requests in 60 min: 400 allowed, 100 denied" in said
    assert f"most asked: {PLAIN.name} 340, {OTHER.name} 160" in said
    assert f"deny most: {OTHER.name} 60, {PLAIN.name} 40" in said


def test_limits_that_stand_out():
    found = of_usage({1: LimitUsage(0, 200), 2: LimitUsage(100, 1)})
    assert found["always-denies"].where == PLAIN.name
    assert "200 denied, none allowed" in found["always-denies"].evidence
    assert found["one-limit-denies"].evidence.startswith("200 of 201 denials (100 %)")
    found = of_usage({1: LimitUsage(100)}, since_s=2 * DAY_S)
    assert (found["never-matches"].where, found["never-matches"].level) == (OTHER.name, Level.INFO)
    # Counters of an hour prove nothing, nor does a handful of denials.
    assert set(of_usage({1: LimitUsage(0, 20)})) == {"requests"}


def test_a_limit_in_shadow_denies_nobody():
    shadow = replace(PLAIN, mode=Mode.SHADOW)
    usage = Usage(0.0, limits={1: LimitUsage(0, 200)}, checks=(200,))
    assert "always-denies" not in codes(list(judge(usage, (shadow,), 10.0)))


def test_decisions_without_redis_are_told():
    found = of_usage({1: LimitUsage(100)}, degraded=90)
    assert found["degraded"].level is Level.WARNING
    assert "90 requests in 60 min, 500 checks" in found["degraded"].evidence


def test_a_limit_over_its_identity_budget_is_told(redis_server, redis_client):
    few = rule(number=70, identities=2)
    with looking(redis_server.url) as look:
        engine = look.engine
        engine.store.publish(Ruleset(7, (few,)))
        engine.identities.install([few])
        for name in "abcdef":
            engine.identities.admit([few], [0], [engine.limiter.digests.of(("name", name))])
        engine.count_identities()
    found = find("requests", redis_server.url)
    (over,) = [one for one in found if one.code == "over-budget"]
    assert (over.level, over.where) == (Level.WARNING, few.name)
    assert "budget 2" in over.evidence
    within = requests.Budgeted("a", IdentityCount(2, 2, 60, None))
    assert list(over_budget([within])) == []
