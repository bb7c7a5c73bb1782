"""Which denials an engine notes, and what of them: never of a request that is allowed."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient

from apps.ratelimits import conf
from apps.ratelimits.engine import Engine
from apps.ratelimits.models import Override, RateLimit
from apps.ratelimits.policy.facts import ANONYMOUS, RequestFacts, UserFacts


def limit(name="one", **changes) -> RateLimit:
    values = {"quota": 1, "window_unit": 3600, "path_kind": "prefix", "path": "/api/"}
    return RateLimit.objects.create(name=name, **{**values, **changes})


FACTS = RequestFacts("GET", "/api/test", "203.0.113.9")


def ask(engine, facts=FACTS, user=ANONYMOUS) -> bool:
    return engine.decide(engine.candidates(facts), facts, user)[0].allowed


def test_a_denial_is_in_redis_with_whom_it_counted(engine):
    one, shadow = limit(), limit("shadow", mode="shadow", counted_by="everyone")
    engine.refresh()
    assert ask(engine)
    engine.flush_denied()
    assert engine.denied.recent() == []
    assert not ask(engine)
    assert not ask(engine)
    engine.flush_denied()
    (denial,) = engine.denied.recent()
    digest = engine.limiter.digests.of(("address", "203.0.113.9"))
    assert (denial.times, denial.method, denial.path) == (2, "GET", "/api/test")
    assert (denial.view, denial.whole, denial.why) == ("api-test", True, "limit")
    assert denial.denied == (one.pk,)
    assert dict(denial.counted).keys() == {one.pk, shadow.pk}
    assert denial.address == denial.digest(one.pk) == digest
    now_s = time.time()
    (most,) = engine.denied.top(one.pk, now_s - 60, now_s, 5)
    assert (most.digest, most.times, most.at_least, most.names) == (digest, 2, 2, ())
    assert engine.denied.top(shadow.pk, now_s - 60, now_s, 5) == []


def test_a_block_by_an_override_is_noted_as_such(engine):
    one = limit()
    Override.objects.create(network="203.0.113.0/24", action="blocked")
    engine.refresh()
    assert not ask(engine)
    engine.flush_denied()
    (denial,) = engine.denied.recent()
    assert (denial.why, denial.denied) == ("override", (one.pk,))
    assert denial.digest(one.pk) == engine.limiter.digests.of(("address", "203.0.113.9"))


@pytest.mark.parametrize("allowed", [False, True])
def test_names_are_kept_only_where_the_site_allows_it(engine, redis_client, allowed):
    # A session's key would let its reader in: never kept.
    one = limit(counted_by="address,user,session,header", header="X-Api-Key")
    engine.config = replace(conf.current(), denied_names=allowed)
    engine.refresh()
    user = UserFacts("77", session="session-of-ada", keys=(("x-api-key", "acme"),))
    for _ in range(2):
        ask(engine, user=user)
    engine.flush_denied()
    (denial,) = engine.denied.recent()
    names = (("user", "77"), ("header x-api-key", "acme"), ("address", "203.0.113.9"))
    now_s = time.time()
    (most,) = engine.denied.top(one.pk, now_s, now_s, 5)
    expected = set(names) if allowed else set()
    assert set(denial.names.get(one.pk, ())) == set(most.names) == expected
    held = json.dumps([str(redis_client.dump(key)) for key in redis_client.keys("*")])
    assert "session-of-ada" not in held
    assert ("203.0.113.9" in held) == allowed


def test_a_denial_under_asgi_is_noted_too(engine):
    limit()
    engine.refresh()

    async def twice():
        client = AsyncClient()
        return [(await client.get("/api/test")).status_code for _ in range(2)]

    assert async_to_sync(twice)() == [200, 429]
    engine.flush_denied()
    assert [one.times for one in engine.denied.recent()] == [1]


def test_the_poller_sends_it_within_two_seconds(engine, client):
    limit()
    engine.refresh()
    assert [client.get("/api/test").status_code for _ in range(2)] == [200, 429]
    deadline = time.monotonic() + 5
    while not engine.denied.recent() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [one.path for one in engine.denied.recent()] == ["/api/test"]


def test_a_long_path_is_cut_before_it_is_kept_in_memory(engine):
    limit()
    engine.refresh()
    facts = replace(FACTS, path="/api/" + "x" * 100_000, method="M" * 1_000)
    for _ in range(2):
        ask(engine, facts)
    (noted,) = engine.denied_notes._noted
    assert len(noted.path) <= 200
    assert len(noted.method) <= 20
    assert isinstance(engine, Engine)
