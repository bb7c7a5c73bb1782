"""Which limits count somebody, how much is used, and forgetting it in every process."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from apps.ratelimits.engine import Engine
from apps.ratelimits.inspecting import Subject, inspect, is_digest, reset
from apps.ratelimits.models import Override, RateLimit
from apps.ratelimits.policy.facts import ANONYMOUS, RequestFacts, UserFacts

ADDRESS = "203.0.113.9"
FACTS = RequestFacts("GET", "/api/test", ADDRESS)


def limit(name, **changes) -> RateLimit:
    return RateLimit.objects.create(name=name, **{"quota": 10, "window_unit": 3600, **changes})


def ask(engine, user=ANONYMOUS, facts=FACTS, times=1) -> bool:
    for _ in range(times):
        allowed = engine.decide(engine.candidates(facts), facts, user)[0].allowed
    return allowed


def names(found) -> set[str]:
    return {one.name for one in found.counters}


@pytest.fixture
def limits(engine):
    limit("address")
    limit("user", counted_by="user", audience="signed_in")
    limit("user-or-address", counted_by="user")
    limit("both", counted_by="address,user")
    limit("key", counted_by="header", header="X-Api-Key")
    limit("session", counted_by="session")
    limit("argument", counted_by="view_argument", view_argument="pk")
    limit("together", counted_by="everyone")
    limit("elsewhere", networks="10.0.0.0/8")
    engine.refresh()


def test_a_limit_counts_whom_it_knows_all_of(engine, limits):
    ada = User.objects.create_user("ada")
    found = inspect(engine, Subject(address=ADDRESS))
    assert names(found) == {"address", "user-or-address", "both", "key", "session"}
    assert (found.apart, found.together) == (1, 1)
    found = inspect(engine, Subject(user=ada))
    assert names(found) == {"user", "user-or-address"}
    found = inspect(engine, Subject(address=ADDRESS, user=ada))
    assert names(found) == {"address", "user", "user-or-address", "both", "key", "session"}
    found = inspect(engine, Subject(header="x-api-key", key_of="acme"))
    assert names(found) == {"key"}
    assert names(inspect(engine, Subject(session="abc"))) == {"session"}


def test_what_is_read_is_what_was_charged_and_nobody_is_charged_for_reading(engine, limits):
    ada = User.objects.create_user("ada")
    ask(engine, UserFacts(str(ada.pk)), times=3)
    subject = Subject(address=ADDRESS, user=ada)
    for _ in range(3):
        found = inspect(engine, subject)
        used = {one.name: one.bar.used for one in found.counters}
        assert used == dict.fromkeys(
            ("address", "user", "user-or-address", "both", "key", "session"), 3
        )
    # The address alone has nothing where the user counts.
    used = {one.name: one.bar.used for one in inspect(engine, Subject(address=ADDRESS)).counters}
    assert (used["address"], used["user-or-address"], used["both"]) == (3, 0, 0)


@pytest.mark.parametrize(
    "algorithm",
    ["token_bucket", "fixed_window", "sliding_window", "sliding_log", "concurrency"],
)
def test_every_algorithm_has_its_bar_and_is_reset(engine, algorithm):
    limit("one", algorithm=algorithm, quota=4)
    engine.refresh()
    ask(engine, times=4)
    (one,) = inspect(engine, Subject(address=ADDRESS)).counters
    assert (one.bar.used, one.bar.capacity, one.bar.percent) == (4, 4, 100)
    assert one.denies
    (by_digest,) = inspect(engine, Subject(digest=one.digest)).counters
    assert by_digest.bar.used == 4
    # Slots have no record in the bucket: they are a key of their own.
    assert reset(engine, inspect(engine, Subject(digest=one.digest))) >= 1
    (one,) = inspect(engine, Subject(address=ADDRESS)).counters
    assert (one.bar.used, one.denies) == (0, False)
    assert ask(engine)


def test_a_reset_is_heard_in_another_process(engine, limits):
    RateLimit.objects.filter(name="address").update(quota=1)
    engine.refresh()
    other = Engine(engine.config)
    try:
        other.refresh()
        assert ask(other)
        assert not ask(other)
        assert reset(engine, inspect(engine, Subject(address=ADDRESS))) >= 1
        other.refresh()
        assert ask(other)
    finally:
        other.limiter.close()


def test_an_override_is_told_and_its_quota_is_the_bar(engine, limits):
    Override.objects.create(network=ADDRESS, action="quota", quota=500)
    engine.refresh()
    found = inspect(engine, Subject(address=ADDRESS))
    (one,) = [one for one in found.counters if one.name == "address"]
    assert one.bar.capacity == 500
    assert one.said == ("An override for network 203.0.113.9 gives 500.",)


def test_more_limits_than_one_call_takes(engine):
    RateLimit.objects.bulk_create(
        [RateLimit(name=f"l{n}", quota=n + 1, window_unit=3600) for n in range(250)]
    )
    engine.refresh()
    ask(engine)
    found = inspect(engine, Subject(address=ADDRESS))
    assert len(found.counters) == 250
    assert found.used == 250
    assert found.counters[0].name == "l0"
    digest = found.digests[0]
    assert len(inspect(engine, Subject(digest=digest)).counters) == 250


def test_of_nobody_there_is_nothing(engine, limits):
    found = inspect(engine, Subject(digest="a" * 20))
    assert (found.counters, reset(engine, found)) == ((), 0)


def test_an_ipv6_client_is_its_network(engine, limits):
    ask(engine, facts=RequestFacts("GET", "/api/test", "2001:db8::/64"))
    found = inspect(engine, Subject(address="2001:db8::9"))
    assert {one.bar.used for one in found.counters if one.name == "address"} == {1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a" * 20, True), ("a" * 19, False), ("a" * 19 + "}", False), ("", False)],
)
def test_what_a_digest_looks_like(text, expected):
    assert is_digest(text) == expected


def test_on_a_cluster(cluster):
    """Each identity lies in a slot of its own, and all are read and reset."""
    from types import SimpleNamespace

    from apps.ratelimits.policy.matching import compile_ruleset
    from apps.ratelimits.policy.rules import Algorithm, CountedBy, Rate, Rule, Ruleset
    from apps.ratelimits.storage.cardinality import IdentityBudgets
    from apps.ratelimits.storage.limiter import Target

    from .limiters import make_limiter

    limiter = make_limiter(cluster.url)
    rate = Rate(Algorithm.FIXED_WINDOW, 10, 3_600_000_000, burst=10)
    rules = tuple(
        Rule(900 + n, by, rate, counted_by=(CountedBy(by),), header="x-api-key")
        for n, by in enumerate(("address", "header", "session"))
    )
    budgets = IdentityBudgets(limiter.client, limiter.keys, limiter.digests.of, 0)
    engine = SimpleNamespace(
        limiter=limiter,
        index=compile_ruleset(Ruleset(1, rules)),
        identities=budgets,
        config=SimpleNamespace(ipv6_prefix=64),
        reset=limiter.reset,
    )
    subject = Subject(address=ADDRESS, header="x-api-key", key_of="acme", session="s1")
    try:
        reset(engine, inspect(engine, subject))
        found = inspect(engine, subject)
        limiter.check([Target(rule, found_one.digest) for rule, found_one in zip(
            rules, sorted(found.counters, key=lambda one: one.limit), strict=True)])  # fmt: skip
        found = inspect(engine, subject)
        assert {one.bar.used for one in found.counters} == {1}
        assert len(found.digests) == 3
        assert reset(engine, found) == 3
        assert inspect(engine, subject).used == 0
    finally:
        limiter.close()
