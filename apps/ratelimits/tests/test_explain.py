"""What is told of canaries, drafts and limits that only code asks for is what happens."""

from __future__ import annotations

import pytest

from apps.ratelimits.explain import Question, explain
from apps.ratelimits.inspecting import Subject, inspect
from apps.ratelimits.models import RateLimit
from apps.ratelimits.policy.facts import RequestFacts

ADDRESSES = [f"203.0.113.{last}" for last in range(1, 41)]


@pytest.fixture
def canary(engine):
    RateLimit.objects.create(
        name="half", quota=1, window_unit=3600, mode="canary", canary_percent=50
    )
    engine.refresh()


def asked(engine, address: str, times: int = 1) -> bool:
    facts = RequestFacts("GET", "/", address)
    for _ in range(times):
        allowed = engine.decide(engine.candidates(facts), facts)[0].allowed
    return allowed


def told(engine, address: str) -> tuple[bool | None, str, tuple[str, ...]]:
    found = explain(engine, Question(address=address))
    (row,) = found.rows
    return found.allowed, row.mode, row.said


def test_a_canary_is_told_as_it_is_for_the_client(engine, canary):
    really = {address: asked(engine, address, times=2) for address in ADDRESSES}
    assert set(really.values()) == {True, False}
    for address, allowed in really.items():
        of = "A canary of 50 % of clients: this one is "
        expected = (
            (True, "shadow", f"{of}outside, for whom it counts and blocks nobody.")
            if allowed
            else (False, "enforce", f"{of}in it.")
        )
        found, mode, (said,) = told(engine, address)
        assert (found, mode, said) == expected


def test_an_identity_is_inspected_as_its_canary_has_it(engine, canary):
    for address in ADDRESSES:
        allowed = asked(engine, address, times=2)
        (counter,) = inspect(engine, Subject(address=address)).counters
        assert (counter.mode, counter.denies) == (
            ("shadow", False) if allowed else ("enforce", True)
        )
        (by_digest,) = inspect(engine, Subject(digest=counter.digest)).counters
        assert (by_digest.mode, by_digest.denies) == (counter.mode, counter.denies)


def test_a_draft_and_a_limit_by_name_are_listed_with_why_they_do_not_count(engine):
    RateLimit.objects.create(name="draft", quota=1, mode="draft")
    RateLimit.objects.create(name="named", quota=1, path_kind="named")
    engine.refresh()
    found = explain(engine, Question(address=ADDRESSES[0]))
    assert found.allowed is True
    assert {row.name: row.said for row in found.rows} == {
        "draft": ("It is a draft.",),
        "named": ("Only code asks for it, by its name.",),
    }


@pytest.mark.parametrize("path", ["/api/check", "/api/check/nginx"])
def test_where_other_services_ask_nobody_is_limited(engine, client, path):
    RateLimit.objects.create(name="all", quota=1)
    engine.refresh()
    assert [client.get(path, REMOTE_ADDR="127.0.0.1").status_code for _ in range(3)] == [400] * 3
    found = explain(engine, Question(path=path, address="127.0.0.1"))
    assert (found.allowed, "other services ask" in found.verdict) == (True, True)
    elsewhere = explain(engine, Question(path="/api/checkout", address="127.0.0.1"))
    assert "other services" not in elsewhere.verdict
