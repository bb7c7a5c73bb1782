"""Buckets that nobody here wrote, or that another limit did: no check fails on them."""

from __future__ import annotations

import random

import pytest

from apps.ratelimits.policy.rules import (
    Algorithm,
    Rate,
    Rule,
)
from apps.ratelimits.storage.limiter import Target

from .buckets import BLOCK, PLAIN, Model, agree, checked, clock_us, pack_bucket, store
from .limiters import A, limiter, rule

__all__ = ["limiter"]

GARBAGE = {
    "empty": b"",
    "one byte": b"\x02",
    "half a head": b"\x02\x01\x02",
    "another version": b"\x01" + b"\x07" * 30,
    "a later version": b"\x03" + b"\xff" * 30,
}


@pytest.mark.parametrize("general", [False, True], ids=["quick", "general"])
@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_bucket_counts_as_none(limiter, raw, general):
    limiter.client.set(limiter.keys.bucket(A), raw)
    targets = [Target(rule(quota=1), A)]
    model = Model()
    for _ in range(2):
        reply = checked(limiter, targets, general=general)
        assert reply == model.check(targets, reply[1], not general)
    agree(limiter, model, A)


def cut_buckets(limiter):
    """A head and a record of each form, cut short at each byte."""
    now_us = clock_us(limiter)
    for record in [
        (4, (0, now_us + 10**6, 1, 0)),
        (4, (0, now_us // 10**6 * 10**6 + 10**7, 300, 0)),
        (4, (0, now_us + 10**6 | 1, 300, 0)),
        (4, (99, now_us + 10**6, 300, 9)),
    ]:
        whole = pack_bucket(now_us, dict([record]))
        for size in range(9, len(whole)):
            yield whole[:size]


@pytest.mark.parametrize("general", [False, True], ids=["quick", "general"])
def test_a_record_that_is_cut_short_fails_no_check(limiter, general):
    key = limiter.keys.bucket(A)
    for raw in cut_buckets(limiter):
        limiter.client.set(key, raw)
        for _ in range(2):
            assert checked(limiter, [Target(rule(quota=5), A)], general=general)[0] == 1
        limiter.client.set(key, raw)
        assert limiter.peek([Target(rule(quota=5), A)]).allowed


@pytest.mark.parametrize("seed", range(3))
def test_noise_behind_a_head_fails_no_check_and_passes(limiter, seed):
    chance = random.Random(seed)
    targets = [Target(rule(algorithm, number=n), A) for n, algorithm in enumerate(PLAIN)]
    key = limiter.keys.bucket(A)
    for _ in range(100):
        head = b"\x02" + clock_us(limiter).to_bytes(7, "little")
        limiter.client.set(key, head + chance.randbytes(chance.randint(1, 90)))
        for general in (False, True):
            checked(limiter, targets, general=general)
    limiter.client.delete(key)
    assert limiter.check(targets).allowed


def test_a_limit_that_blocks_no_longer_decides_alike_alone_and_beside_others(limiter):
    limit = rule(quota=5)
    now_us = clock_us(limiter)
    block = {limit.id * 4 + BLOCK: (0, now_us + 60_000_000, 0, 0)}
    limiter.client.set(limiter.keys.bucket(A), pack_bucket(now_us, block))
    alone, beside = (
        checked(limiter, [Target(limit, A)], general=general)[0] for general in (False, True)
    )
    assert alone == beside


@pytest.mark.parametrize("general", [False, True], ids=["quick", "general"])
def test_a_remainder_of_another_rate_is_less_than_a_microsecond(limiter, general):
    """An edit that keeps what is counted changes what a remainder is measured in."""
    before = Rate(Algorithm.TOKEN_BUCKET, 1_000_003, 10_000_000, 10)
    after = Rate(Algorithm.TOKEN_BUCKET, 1_000, 10_000_000, 100)
    assert (before.denominator, after.denominator) == (1_000_003, 1)
    now_us = clock_us(limiter)
    model = Model()
    model.buckets[A] = (now_us, {4: (0, now_us + 500_000, 1_000_002, 0)})
    store(limiter, model, A)
    target = Target(Rule(id=1, name="edited", rate=after), A)
    reply = checked(limiter, [target], general=general)
    assert reply == model.check([target], reply[1], not general)
