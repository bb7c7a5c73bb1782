"""What is given back of a charge, on real servers: once, and not what has refilled."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from apps.ratelimits.policy.rules import Algorithm
from apps.ratelimits.storage.limiter import Target

from .limiters import A, B, by_status, charges_of, limiter, rule

__all__ = ["limiter"]


@pytest.mark.parametrize("algorithm", [a for a in Algorithm if a is not Algorithm.CONCURRENCY])
def test_a_refund_gives_back_exactly_one_charge(limiter, algorithm):
    target = Target(by_status(rule(algorithm, quota=5, cost=2)), A)
    charges = charges_of(limiter, target)
    limiter.check([target])
    before = limiter.peek([target]).remaining
    assert limiter.refund(charges) == 1
    assert before == 1
    assert limiter.peek([target]).remaining == 3
    # Its own standing afterwards is told without asking again.
    assert limiter.check([target]).allowed
    decision = limiter.check([Target(target.rule, B)])
    told = decision.refunded(decision.charges)
    limiter.refund(decision.charges)
    assert told.remaining == limiter.peek([Target(target.rule, B)]).remaining == 5


def test_charges_of_several_identities_are_given_back_in_one_call(limiter):
    targets = [
        Target(by_status(rule(algorithm, number=n)), who)
        for n, algorithm in enumerate(Algorithm)
        if algorithm is not Algorithm.CONCURRENCY
        for who in (A, B)
    ]
    charges = charges_of(limiter, *targets)
    assert len(charges) == 8
    calls = limiter.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert limiter.refund(charges) == 8
    stats = limiter.client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == calls + 1
    assert {v.standing.remaining for v in limiter.peek(targets).verdicts} == {3}


async def test_a_refund_on_the_event_loop(limiter):
    target = Target(by_status(rule()), A)
    charges = charges_of(limiter, target)
    assert await limiter.arefund(charges) == 1
    assert limiter.peek([target]).remaining == 3
    await limiter.aclose()


def test_only_a_limit_that_counts_by_response_can_be_refunded(limiter):
    both = [Target(rule(number=1), A), Target(by_status(rule(number=2)), A)]
    assert [charge.rule.id for charge in limiter.check(both).charges] == [2]
    assert limiter.peek(both).charges == ()
    limiter.check(both)
    limiter.check(both)
    assert limiter.check(both).charges == ()


def test_a_late_refund_frees_only_what_has_not_refilled(limiter):
    limit = rule(Algorithm.TOKEN_BUCKET, quota=1, window_us=100_000)
    target = Target(by_status(limit), A)
    first = charges_of(limiter, target)
    time.sleep(0.12)
    second = charges_of(limiter, target)
    assert limiter.refund(first) == 0
    assert limiter.refund(second) == 1
    assert limiter.check([target]).allowed


def test_late_refunds_in_a_row_free_only_what_was_taken(limiter):
    limit = rule(Algorithm.TOKEN_BUCKET, quota=2, window_us=400_000)
    target = Target(by_status(limit), A)
    first = charges_of(limiter, target)
    second = charges_of(limiter, target)
    assert limiter.refund(first) == 1
    assert limiter.check([target]).allowed
    time.sleep(0.21)  # The second charge, first in the queue now, has refilled.
    assert limiter.check([target]).allowed
    assert limiter.refund(second) == 0
    assert not limiter.check([target]).allowed


def test_a_token_buckets_charge_is_not_given_back_after_an_hour(limiter):
    target = Target(by_status(rule(Algorithm.TOKEN_BUCKET)), A)
    (charge,) = charges_of(limiter, target)
    assert limiter.refund([replace(charge, at_us=charge.at_us - 3_600_000_000)]) == 0
    assert limiter.refund([charge]) == 1


def test_what_a_token_bucket_gave_back_is_known_for_an_hour(limiter):
    target = Target(by_status(rule(Algorithm.TOKEN_BUCKET, quota=1, window_us=100_000)), A)
    limiter.refund(charges_of(limiter, target))
    limiter.check([target])
    assert 3_500_000 < limiter.client.pttl(limiter.keys.bucket(A)) <= 3_600_001


def test_a_refund_of_another_window_frees_nothing(limiter):
    target = Target(by_status(rule(quota=5)), A)
    (charge,) = charges_of(limiter, target)
    before = replace(charge.state, a=charge.state.a - 60_000_000)
    assert limiter.refund([replace(charge, state=before)]) == 0
    assert limiter.peek([target]).remaining == 4
