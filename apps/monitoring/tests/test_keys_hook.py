"""Keys made by real checks, among foreign ones: counted, weighed, and told whose they are."""

from __future__ import annotations

import re

import pytest

from apps.monitoring.hooks import keys as hook
from apps.ratelimits.policy.rules import Algorithm, Ruleset
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.ruleset_store import RulesetStore
from apps.ratelimits.storage.server_findings import Level
from apps.ratelimits.tests.limiters import make_limiter, rule
from tests import redis_files
from tests.servers import RedisProcess, flavours

from .looking import find

CLIENTS = 200


@pytest.fixture(params=flavours())
def server(request):
    made = redis_files.with_users(request.param)
    yield made.start()
    made.stop()


def of(server: RedisProcess, name: str) -> str:
    return redis_files.url(name, f"127.0.0.1:{server.port}")


def keys(server: RedisProcess):
    found = find("keys", of(server, "iota"), redis_operator_url=of(server, "iota-operator"))
    return {one.code: one for one in found}


@pytest.fixture
def filled(server):
    """Of limit 1 all clients, of limit 2 half of them (a log each), and as many foreign keys."""
    plain = rule(Algorithm.TOKEN_BUCKET, number=1)
    log = rule(Algorithm.SLIDING_LOG, number=2)
    limiter = make_limiter(of(server, "iota"), redis_timeout_ms=5_000)
    for number in range(CLIENTS):
        who = f"{number:020d}"
        targets = [Target(plain, who), *([Target(log, who)] if number % 2 else [])]
        assert limiter.check(targets).allowed
    with server.client() as admin:
        RulesetStore(admin, Keys("iota:")).publish(Ruleset(7, (plain, log)))
        admin.mset({f"shop:{number}": "x" for number in range(CLIENTS)})
    yield plain, log
    limiter.close()


def test_keys_are_counted_by_limit_and_weighed(server, filled):
    found = keys(server)
    assert set(found) == {"keys"}
    said = found["keys"].evidence
    assert f"{CLIENTS * 3 // 2} of {CLIENTS * 5 // 2 + 1} keys are counters" in said
    assert re.search(
        rf"all were looked at; buckets {CLIENTS} of \d+ bytes; logs {CLIENTS // 2} of \d+ bytes; "
        r"[\d.]+ KiB together",
        said,
    )
    plain, log = filled
    assert f"{plain.name} {CLIENTS}" in said
    assert f"{log.name} {CLIENTS}" in said  # its record in the bucket, and its log


def test_keys_without_a_time_to_live_are_told(server, filled):
    with server.client() as admin:
        for number in range(50):
            admin.persist(Keys("iota:").bucket(f"{number:020d}"))
    found = keys(server)["keys-without-ttl"]
    assert found.level is Level.WARNING
    assert found.evidence == "keys: 50; of 300 read: 50"
    assert "manage.py sweep" in found.to_do


def test_keys_of_deleted_limits_are_told(server, filled):
    _plain, log = filled
    with server.client() as admin:
        RulesetStore(admin, Keys("iota:")).publish(Ruleset(8, (log,)))
    found = keys(server)
    orphans = found["keys-of-deleted-limits"]
    assert orphans.level is Level.WARNING
    # Those of who has a record of the other limit too are needed still.
    assert orphans.evidence == f"keys: {CLIENTS // 2}; of 300 read: {CLIENTS // 2}"
    assert "limit 1 (not published)" in found["keys"].evidence


def test_of_many_keys_a_sample_is_looked_at_and_its_error_is_stated(server, filled, monkeypatch):
    monkeypatch.setattr(hook, "SCAN_S", 0.0)
    monkeypatch.setattr(hook, "PAGE", 40)
    monkeypatch.setattr(hook, "SAMPLE", 20)
    said = keys(server)["keys"].evidence
    assert " ± " in said
    assert "were looked at" in said
    assert "all were" not in said


def test_the_estimate_holds():
    """Of 100,000 keys a tenth is ours: a sample of 4,000 says so within its error."""
    found = hook.Sampled(100_000, seen=4_000)
    found.kinds["buckets"] = 400
    assert found.counters == 10_000
    assert 850 < found.error < 1_000
    found.read = 400
    assert found.estimate(40) == "1,000 ± 288"


def test_who_may_not_look_through_keys_does_not_know(server):
    (found,) = find("keys", of(server, "iota"))
    assert (found.level, found.code) == (Level.UNKNOWN, "not-known")


def test_an_empty_server_has_none(server):
    assert keys(server)["keys"].evidence == "0 of 0 keys are counters; all were looked at"
