"""The scripts against the pure arithmetic, on real servers."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest

from apps.ratelimits.policy.rules import Algorithm, Mode, Rule
from apps.ratelimits.storage.limiter import Target

from .limiters import A, B, Oracle, in_order, limiter, rule

__all__ = ["limiter"]

WINDOW_US = 200_000


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("seed", range(3))
def test_a_script_says_what_the_arithmetic_says(limiter, algorithm, seed):
    chance = random.Random(f"{algorithm}{seed}")
    quota = chance.choice([3, 7, 20])
    cost = 1 if algorithm is Algorithm.CONCURRENCY else chance.choice([1, 2])
    burst = chance.choice([cost, quota, 2 * quota])
    limits = [
        rule(algorithm, quota, WINDOW_US, number=1, cost=cost, burst=max(cost, burst)),
        rule(chance.choice(list(Algorithm)), 9, WINDOW_US * 3, number=2),
        rule(Algorithm.TOKEN_BUCKET, 5, WINDOW_US, number=3, mode=Mode.SHADOW),
    ]
    oracle = Oracle()
    for turn in range(150):
        chosen = in_order(
            Target(limit, chance.choice([A, B])) for limit in limits if chance.random() < 0.8
        )
        if not chosen:
            continue
        reply, _ = limiter.traced_check(chosen)
        assert reply == oracle.expect(chosen, reply[1], f"m{turn}")
        if chance.random() < 0.1:
            time.sleep(chance.random() * WINDOW_US / 2e6)


def test_all_limits_are_charged_or_none(limiter):
    wide, narrow = rule(quota=10, number=1), rule(quota=1, number=2)
    targets = [Target(wide, A), Target(narrow, B)]
    assert limiter.check(targets).allowed
    denied = limiter.check(targets)
    assert not denied.allowed
    assert [limit.name for limit in denied.violated] == ["limit-2"]
    assert limiter.peek([Target(wide, A)]).remaining == 9


def test_a_shadow_limit_never_denies(limiter):
    shadow = rule(quota=1, mode=Mode.SHADOW)
    assert [limiter.check([Target(shadow, A)]).allowed for _ in range(3)] == [True] * 3


def test_a_limit_keeps_its_record_beside_a_shorter_one(limiter):
    long, short = rule(quota=5, number=1), rule(quota=5, window_us=1_000_000, number=2)
    limiter.check([Target(long, A)])
    limiter.check([Target(short, A)])
    assert limiter.peek([Target(long, A)]).remaining == 4
    assert 1_000 < limiter.client.pttl(limiter.keys.bucket(A)) <= 60_001


def test_every_key_expires(limiter):
    limits = [rule(algorithm, number=n) for n, algorithm in enumerate(Algorithm)]
    limiter.check([Target(limit, A) for limit in limits])
    ages = {key: limiter.client.pttl(key) for key in limiter.client.scan_iter()}
    assert len(ages) == 3
    assert all(0 < age <= 120_001 for age in ages.values()), ages


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("seed", range(3))
def test_what_a_denial_costs_is_what_the_arithmetic_says(limiter, algorithm, seed):
    chance = random.Random(f"denied{algorithm}{seed}")
    slots = algorithm is Algorithm.CONCURRENCY
    cost = 1 if slots else chance.choice([1, 2])
    quota = chance.choice([2, 5])
    charged = not slots and chance.random() < 0.8
    block_us = chance.choice([0, 20_000, 60_000])
    limits = [
        rule(algorithm, quota, WINDOW_US, cost=cost, charge_denied=charged, block_us=block_us),
        rule(Algorithm.TOKEN_BUCKET, 7, WINDOW_US, number=2, charge_denied=True, cost=2),
        rule(
            Algorithm.SLIDING_LOG, 4, WINDOW_US, number=3, mode=Mode.SHADOW, block_us=10_000, cost=2
        ),
    ]
    oracle = Oracle()
    for turn in range(150):
        chosen = in_order(
            Target(limit, chance.choice([A, B])) for limit in limits if chance.random() < 0.8
        )
        if not chosen:
            continue
        # Whatever a new cost meets that older entries did not have.
        if not slots and chance.random() < 0.3:
            chosen = [t._replace(rule=replace_cost(t.rule, chance.choice([1, 2]))) for t in chosen]
        reply, _ = limiter.traced_check(chosen)
        assert reply == oracle.expect(chosen, reply[1], f"m{turn}")
        if chance.random() < 0.3:
            time.sleep(chance.random() * WINDOW_US / 2e6)


def replace_cost(limit: Rule, cost: int) -> Rule:
    return replace(limit, rate=replace(limit.rate, cost=cost))


def test_a_denied_request_is_free_unless_the_limit_says_otherwise(limiter):
    free = Target(rule(Algorithm.SLIDING_LOG, quota=1, window_us=150_000, number=1), A)
    charged = Target(
        rule(Algorithm.SLIDING_LOG, quota=1, window_us=150_000, number=2, charge_denied=True), A
    )
    assert limiter.check([free, charged]).allowed
    until = time.monotonic() + 0.4
    passed = {"free": 0, "charged": 0}
    while time.monotonic() < until:
        passed["free"] += limiter.check([free]).allowed
        passed["charged"] += limiter.check([charged]).allowed
        time.sleep(0.01)
    assert passed["free"] == 2
    assert passed["charged"] == 0
    time.sleep(0.16)
    assert limiter.check([charged]).allowed


def test_a_block_begins_with_the_first_denial_and_is_not_prolonged(limiter):
    target = Target(rule(quota=1, window_us=50_000, block_us=300_000), A)
    while limiter.check([target]).allowed:
        pass
    began = time.monotonic()
    waits = []
    while not (decision := limiter.check([target])).allowed:
        waits.append(decision.retry_after_us)
        assert decision.remaining == 0
        time.sleep(0.02)
    assert 0.25 < time.monotonic() - began < 0.6
    # At its end the window may still have longer to run.
    of_the_block = [wait for wait in waits if wait > 50_000]
    assert of_the_block == sorted(of_the_block, reverse=True)
    assert limiter.client.pttl(limiter.keys.bucket(A)) <= 301


def test_a_log_that_was_cut_by_hand_is_no_error_where_denials_are_charged(limiter):
    target = Target(rule(Algorithm.SLIDING_LOG, quota=6, cost=3, charge_denied=True), A)
    limiter.check([target])
    limiter.check([target])
    limiter.client.lpop(limiter.keys.sidecar(target.rule, A))
    assert not limiter.check([target]).allowed
    assert not limiter.check([target]).allowed


def test_a_new_epoch_starts_afresh(limiter):
    limiter.check([Target(rule(quota=1), A)])
    assert limiter.check([Target(rule(quota=1, epoch=1), A)]).allowed


def test_reset_forgets_an_identity_and_no_other(limiter):
    limits = [rule(Algorithm.SLIDING_LOG, quota=1, number=1), rule(quota=1, number=2)]
    for who in (A, B):
        limiter.check([Target(limit, who) for limit in limits])
    assert limiter.reset([A], limits) == 2
    assert limiter.check([Target(limit, A) for limit in limits]).allowed
    assert not limiter.check([Target(limit, B) for limit in limits]).allowed


def test_slots_are_freed_by_release_and_by_their_lease(limiter):
    target = Target(rule(Algorithm.CONCURRENCY, quota=2, window_us=150_000), A)
    first, second = limiter.acquire(target), limiter.acquire(target)
    assert first.allowed
    assert second.allowed
    assert not limiter.acquire(target).allowed
    limiter.release(first.held)
    limiter.release(first.held)
    third = limiter.acquire(target)
    assert third.allowed
    denied = limiter.acquire(target)
    assert 0 < denied.retry_after_us <= 150_000
    time.sleep(0.16)
    assert limiter.acquire(target).allowed


def test_scripts_are_loaded_again_after_they_were_lost(limiter):
    limiter.client.script_flush()
    assert limiter.check([Target(rule(), A)]).remaining == 2


def test_the_guides_example(limiter):
    decision = limiter.check_rate_limit("test-user")
    assert (decision.allowed, decision.limit, decision.remaining) == (True, 100, 99)
    assert decision.retry_after_us == 0
    assert 0 < decision.reset_us <= 600_000
    assert decision.violated == ()


async def test_the_async_path_counts_on_the_same_bucket(limiter):
    target = Target(rule(quota=2), A)
    limiter.check([target])
    assert (await limiter.acheck([target])).remaining == 0
    assert not (await limiter.acheck([target])).allowed
    await limiter.aclose()
