"""A canary through Django's whole stack: some clients are denied, the others are only counted."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from http import HTTPStatus

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.http import HttpResponse
from django.test import AsyncRequestFactory
from django.urls import path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.ratelimits.engine import Engine, get_engine
from apps.ratelimits.middleware import RateLimitMiddleware
from apps.ratelimits.models import Override, RateLimit
from apps.ratelimits.policy.canary import is_in
from apps.ratelimits.policy.facts import RequestFacts
from apps.ratelimits.policy.rules import Mode, Ruleset
from apps.ratelimits.storage.usage import LimitUsage

from .test_canary import canary
from .test_middleware import limit, statuses

__all__ = ["limit"]

urlpatterns = [
    path("api/test", lambda request: HttpResponse("ok")),
    path("api/401", lambda request: HttpResponse(status=401)),
]
pytestmark = pytest.mark.urls(__name__)
TOO_MANY = HTTPStatus.TOO_MANY_REQUESTS


def addresses(engine: Engine, inside: bool, count: int = 3, name: str = "three") -> list[str]:
    """So many that are in the canary of a limit, or outside it."""
    (rule,) = [compiled.rule for compiled in engine.index.rules if compiled.rule.name == name]
    found = []
    for number in range(1, 10_000):
        address = f"10.0.{number >> 8}.{number & 255}"
        who = engine.limiter.digests.of(("address", address))
        if is_in(rule, who) is inside:
            found.append(address)
        if len(found) == count:
            return found
    raise AssertionError("too few")


def test_those_in_it_are_denied_and_the_others_counted(engine, limit, client):
    made = limit(mode="canary", canary_percent=20)
    for address in addresses(engine, True):
        assert statuses(client, 5, REMOTE_ADDR=address) == [200, 200, 200, TOO_MANY, TOO_MANY]
    for address in addresses(engine, False):
        assert statuses(client, 5, REMOTE_ADDR=address) == [200] * 5
    engine.flush_usage()
    read = engine.usage.read()
    assert (read.allowed, read.denied) == (3 * 3 + 3 * 5, 3 * 2)
    assert read.limits == {made.pk: LimitUsage(allowed=18, denied=6, would_deny=6)}


async def test_on_an_event_loop_the_same(engine, limit):
    await sync_to_async(limit)(mode="canary", canary_percent=20)

    async def view(request):
        return HttpResponse("ok")

    middleware = RateLimitMiddleware(view)
    for inside, last in ((True, TOO_MANY), (False, 200)):
        (address,) = addresses(engine, inside, 1)
        got = []
        for _ in range(4):
            request = AsyncRequestFactory().get("/api/test")
            request.META["REMOTE_ADDR"] = address
            got.append((await middleware(request)).status_code)
        assert got == [200, 200, 200, last]
    await engine.limiter.aclose()


def test_only_those_in_it_hear_of_it(engine, limit, client):
    limit(mode="canary", canary_percent=20)
    (inside,), (outside,) = addresses(engine, True, 1), addresses(engine, False, 1)
    assert client.get("/api/test", REMOTE_ADDR=inside)["RateLimit"].startswith('"three";r=2')
    assert "RateLimit" not in client.get("/api/test", REMOTE_ADDR=outside)


def test_of_a_thousand_clients_the_stated_share_is_denied(engine, limit, client):
    """10 %, within 4 standard deviations of a fair draw: 62 to 138."""
    limit(mode="canary", canary_percent=10, quota=1)
    denied = 0
    for number in range(1_000):
        address = f"10.1.{number >> 8}.{number & 255}"
        denied += statuses(client, 2, REMOTE_ADDR=address)[1] == TOO_MANY
    assert 62 <= denied <= 138


def test_a_larger_percentage_only_adds_clients_and_keeps_what_they_used(engine, limit, client):
    made = limit(mode="canary", canary_percent=10)
    before = addresses(engine, True, 5)
    for address in before:
        statuses(client, 3, REMOTE_ADDR=address)
    out = addresses(engine, False, 40)
    for address in out:
        statuses(client, 3, REMOTE_ADDR=address)
    made.canary_percent = 50
    made.save()
    engine.refresh()
    assert {statuses(client, 1, REMOTE_ADDR=address)[0] for address in before} == {TOO_MANY}
    added = Counter(statuses(client, 1, REMOTE_ADDR=address)[0] for address in out)
    # Of the 90 % outside, 40 come in.
    assert added[TOO_MANY]
    assert added[200]
    made.mode = "enforce"
    made.save()
    engine.refresh()
    assert {statuses(client, 1, REMOTE_ADDR=address)[0] for address in out} == {TOO_MANY}


def test_a_restart_and_another_process_choose_the_same(engine, limit):
    limit(mode="canary", canary_percent=20)
    seen = [planned_mode(engine, f"10.2.0.{n}") for n in range(200)]
    other = Engine(engine.config)
    other.refresh()
    assert [planned_mode(other, f"10.2.0.{n}") for n in range(200)] == seen
    assert set(seen) == {Mode.ENFORCE, Mode.SHADOW}
    other.limiter.close()


def planned_mode(engine: Engine, address: str) -> Mode:
    facts = RequestFacts("GET", "/api/test", address)
    (rule,) = engine.plan(engine.candidates(facts), facts).rules
    return rule.mode


def test_overrides_go_before_it_for_those_who_are_in(engine, limit, client):
    made = limit(mode="canary", canary_percent=50)
    (inside, blocked, free), outside = addresses(engine, True), addresses(engine, False, 3)
    for address, action, quota in (
        (inside, "quota", 1),
        (blocked, "blocked", None),
        (free, "unlimited", None),
        (outside[0], "quota", 1),
        (outside[1], "blocked", None),
    ):
        Override.objects.create(limit=made, network=f"{address}/32", action=action, quota=quota)
    engine.refresh()
    assert statuses(client, 2, REMOTE_ADDR=inside) == [200, TOO_MANY]
    assert statuses(client, 1, REMOTE_ADDR=blocked) == [TOO_MANY]
    assert statuses(client, 5, REMOTE_ADDR=free) == [200] * 5
    for address in outside:
        assert statuses(client, 5, REMOTE_ADDR=address) == [200] * 5
    engine.flush_usage()
    # Outside: one over its own quota of 1, one that nothing stands against but the usual 3.
    assert engine.usage.read().limits[made.pk] == LimitUsage(
        allowed=1 + 1 + 3, denied=1 + 1, would_deny=4 + 2
    )


def test_a_denial_is_remembered_for_those_in_it_alone(engine, limit, client):
    limit(mode="canary", canary_percent=50)
    (inside,), (outside,) = addresses(engine, True, 1), addresses(engine, False, 1)
    for address in (inside, outside):
        statuses(client, 5, REMOTE_ADDR=address)
    assert len(engine.limiter.denials) == 1


def test_units_are_taken_ahead_for_those_in_it_alone(engine, limit, client):
    limit(mode="canary", canary_percent=50, quota=100, lease=50)
    (inside,), (outside,) = addresses(engine, True, 1), addresses(engine, False, 1)
    assert statuses(client, 101, REMOTE_ADDR=inside) == [200] * 100 + [TOO_MANY]
    held = len(engine.limiter.leases)
    assert held
    assert statuses(client, 101, REMOTE_ADDR=outside) == [200] * 101
    assert len(engine.limiter.leases) == held


def test_without_redis_those_in_it_fall_under_its_policy(engine, limit, client, redis_server):
    limit(mode="canary", canary_percent=50, on_failure="deny")
    (inside,), (outside,) = addresses(engine, True, 1), addresses(engine, False, 1)
    statuses(client, 1)
    redis_server.pause()
    try:
        assert statuses(client, 1, REMOTE_ADDR=inside) == [503]
        assert statuses(client, 1, REMOTE_ADDR=outside) == [200]
    finally:
        redis_server.resume()


def test_the_local_fallback_counts_those_in_it(engine, limit, client, redis_server):
    limit(mode="canary", canary_percent=50, on_failure="local", quota=2)
    (inside,), (outside,) = addresses(engine, True, 1), addresses(engine, False, 1)
    statuses(client, 1)
    redis_server.pause()
    try:
        assert TOO_MANY in statuses(client, 4, REMOTE_ADDR=inside)
        assert statuses(client, 4, REMOTE_ADDR=outside) == [200] * 4
    finally:
        redis_server.resume()


def test_what_does_not_count_is_given_back_to_both(engine, limit, client):
    made = limit(mode="canary", canary_percent=50, counts="status", statuses="401")
    for inside, last in ((True, TOO_MANY), (False, 401)):
        (address,) = addresses(engine, inside, 1)
        assert statuses(client, 6, REMOTE_ADDR=address) == [200] * 6
        assert statuses(client, 4, "/api/401", REMOTE_ADDR=address) == [401, 401, 401, last]
    engine.flush_usage()
    used = engine.usage.read().limits[made.pk]
    assert (used.denied, used.would_deny) == (1, 1)


def test_who_shares_a_count_is_in_or_out_as_before(engine, limit, client):
    """Over the identity budget new clients share one count; the canary is still each one's own."""
    limit(mode="canary", canary_percent=50, identities=1, window_unit=60)
    (first, *inside), outside = addresses(engine, True, 6), addresses(engine, False, 3)
    statuses(client, 1, REMOTE_ADDR=first)
    statuses(client, 1, REMOTE_ADDR="10.9.9.9")
    engine.count_identities()
    engine.count_identities()
    got = [statuses(client, 1, REMOTE_ADDR=address)[0] for address in inside]
    assert got == [200, 200, 200, TOO_MANY, TOO_MANY]
    for address in outside:
        assert statuses(client, 1, REMOTE_ADDR=address) == [200]


def test_a_draft_is_never_in_force(engine, limit, client):
    limit(mode="draft", quota=1)
    assert engine.index.rules == ()
    assert statuses(client, 5) == [200] * 5
    assert engine.store.fetch() in (None, Ruleset(engine.version, ()))


def test_a_canary_that_everyone_shares_is_left_out_and_named(engine, limit, caplog):
    limit()
    RateLimit.objects.update(mode="canary", counted_by="everyone")
    engine.refresh()
    assert engine.index.rules == ()
    assert "Limit three is not enforced" in caplog.text
    assert "everyone together is one count" in caplog.text


# Against the oracle.


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    modes=st.lists(st.sampled_from(["shadow", "canary", "enforce"]), min_size=1, max_size=4),
    quotas=st.lists(st.integers(1, 3), min_size=4, max_size=4),
    permille=st.sampled_from([1, 250, 500, 750, 999]),
    asked=st.lists(st.integers(0, 7), min_size=1, max_size=30),
)
def test_one_call_decides_as_the_oracle_does(engine, redis_client, modes, quotas, permille, asked):
    """Whatever modes are mixed: every limit that is enforced for this client is charged or none
    is, and those in shadow for it are counted where the request goes on."""
    redis_client.flushall()
    rules = []
    for number, mode in enumerate(modes, 1):
        base = canary(permille, number)
        rate = replace(base.rate, quota=quotas[number - 1], window_us=86_400_000_000)
        rules.append(replace(base, mode=Mode(mode), rate=rate))
    engine._install(Ruleset(1, tuple(rules)))
    used: Counter[tuple[int, str]] = Counter()
    for client in asked:
        facts = RequestFacts("GET", "/", f"10.3.0.{client}")
        who = engine.limiter.digests.of(("address", facts.address))
        plan = engine.plan(engine.candidates(facts), facts)
        assert plan.whom == (who,)
        decision = engine.check(plan)
        fits = {rule.id: used[rule.id, who] < rule.rate.quota for rule in rules}
        enforced = [r for r in rules if r.mode is Mode.ENFORCE
                    or (r.mode is Mode.CANARY and is_in(r, who))]  # fmt: skip
        assert decision.allowed == all(fits[rule.id] for rule in enforced)
        if not decision.allowed:
            assert {r.id for r in decision.violated} == {r.id for r in enforced if not fits[r.id]}
            continue
        for rule in rules:
            used[rule.id, who] += fits[rule.id]


def test_the_command_lists_and_sets_the_mode(engine, limit):
    limit(mode="canary")
    said = io.StringIO()
    call_command("ratelimit", "list", stdout=said)
    assert "canary" in said.getvalue()
    assert get_engine() is engine
