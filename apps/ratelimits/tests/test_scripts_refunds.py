"""Buckets as a refund leaves them, and what it knows of refunds before it."""

from __future__ import annotations

import random
from dataclasses import replace

from apps.ratelimits.policy.rules import (
    MAX_WINDOW_US,
    Algorithm,
)
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.packing import PackedLimits

from .buckets import GIVEN, PLAIN, REFUNDED_US, Model, clock_us, foreign, pack_bucket, store
from .limiters import A, by_status, charges_of, limiter, rule

__all__ = ["limiter"]


def given_back(limiter, limit, sum_us: int, since_s: int = 0) -> None:
    """As if so much of a token bucket's had been given back before."""
    now_us = clock_us(limiter)
    records = {limit.id * 4 + GIVEN: (limit.epoch, now_us + REFUNDED_US, sum_us, since_s)}
    limiter.client.set(limiter.keys.bucket(A), pack_bucket(now_us, records))


def sum_of(limiter, limit) -> tuple[int, int]:
    """What has been given back, us, and since which second."""
    packed = PackedLimits(limiter.keys, [limit], [0])
    packed.plain = False
    reply = limiter.redis.ask(packed.check((A,), charge=False), "check")
    raw = limiter.client.get(limiter.keys.bucket(A))
    *_, last = raw[:-26], raw[-26:]
    return reply[5], int.from_bytes(last[-5:], "little")


def test_what_was_given_back_is_known_to_a_charge_and_to_its_refund(limiter):
    limit = by_status(rule(Algorithm.TOKEN_BUCKET, quota=10, window_us=10_000_000))
    target = Target(limit, A)
    given_back(limiter, limit, 2**45)
    (charge,) = charges_of(limiter, target)
    assert charge.state.c == 2**45
    assert limiter.refund([charge]) == 1
    # But what has refilled since.
    assert 2**45 + 900_000 < sum_of(limiter, limit)[0] <= 2**45 + 1_000_000
    assert limiter.peek([target]).remaining == 10


def test_a_charge_keeps_from_when_on_charges_are_given_back(limiter):
    limit = by_status(rule(Algorithm.TOKEN_BUCKET, quota=10, window_us=10_000_000))
    given_back(limiter, limit, 1_000, since_s=12_345)
    charges_of(limiter, Target(limit, A))
    assert sum_of(limiter, limit) == (1_000, 12_345)


def test_a_sum_that_grows_too_large_begins_anew_and_gives_back_no_charge_of_before(limiter):
    limit = by_status(rule(Algorithm.TOKEN_BUCKET, quota=10, window_us=10_000_000))
    target = Target(limit, A)
    given_back(limiter, limit, 2**52 - 1)
    first = charges_of(limiter, target)
    second = charges_of(limiter, target)
    assert limiter.refund(first) == 1
    assert limiter.peek([target]).remaining == 9
    assert limiter.refund(second) == 0
    assert limiter.peek([target]).remaining == 9
    # Nor one of the second in which it began; later ones are given back as ever.
    within = charges_of(limiter, target)
    assert limiter.refund(within) == 0
    later = [replace(charge, at_us=charge.at_us + 2_000_000) for charge in within]
    assert limiter.refund(later) == 1


def test_a_refund_leaves_the_records_of_other_limits_as_they_are(limiter):
    chance = random.Random(5)
    model, now_us = Model(), clock_us(limiter)
    others = {
        tag: record
        for tag, record in foreign(chance, now_us, range(50, 9_000)).items()
        if record[1] > now_us + 1_000_000
    }
    model.buckets[A] = (now_us, others)
    store(limiter, model, A)
    limits = [
        by_status(rule(algorithm, number=n, quota=10, window_us=MAX_WINDOW_US // 60))
        for n, algorithm in enumerate(PLAIN, 1)
    ]
    charges = charges_of(limiter, *(Target(limit, A) for limit in limits))
    assert limiter.refund(charges) == 3
    raw = limiter.client.get(limiter.keys.bucket(A))
    seen_us = int.from_bytes(raw[1:8], "little")
    assert raw.endswith(pack_bucket(seen_us, others)[8:])


def test_a_window_that_has_turned_gives_back_to_the_one_before(limiter):
    limit = by_status(rule(Algorithm.SLIDING_WINDOW, quota=100, window_us=60_000_000))
    target = Target(limit, A)
    (charge,) = charges_of(limiter, target)
    now_us = clock_us(limiter)
    next_us = charge.state.a + 120_000_000
    records = {limit.id * 4: (0, next_us + 60_000_000, 5, 7)}
    limiter.client.set(limiter.keys.bucket(A), pack_bucket(now_us, records))
    assert limiter.refund([charge]) == 1
    raw = limiter.client.get(limiter.keys.bucket(A))
    seen_us = int.from_bytes(raw[1:8], "little")
    assert raw == pack_bucket(seen_us, {4: (0, next_us + 60_000_000, 5, 6)})
