"""Buckets as the scripts leave them: byte by byte what the arithmetic and records.lua say."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest

from apps.ratelimits.policy.rules import (
    MAX_QUOTA,
    MAX_RULE_ID,
    MAX_WINDOW_US,
    Algorithm,
    Mode,
    Rate,
    Rule,
)
from apps.ratelimits.storage.limiter import Target

from .buckets import PLAIN, Model, agree, checked, clock_us, foreign, is_quick, lasts, store
from .limiters import A, B, in_order, limiter, rule

__all__ = ["limiter"]


def some_limits(chance: random.Random, count: int, *, denials: bool) -> list[Rule]:
    limits = []
    for _ in range(count):
        algorithm = chance.choice(PLAIN)
        quota = chance.choice([2, 5, 7, 30, 300])
        rate = Rate(
            algorithm,
            quota,
            chance.choice([30_000, 90_000, 400_000, 86_400_000_000]),
            chance.choice([2, quota, 2 * quota]),
            chance.choice([1, 1, 2]),
            charge_denied=denials and chance.random() < 0.3,
            block_us=chance.choice([0, 20_000, 80_000]) if denials else 0,
        )
        mode = Mode.SHADOW if chance.random() < 0.15 else Mode.ENFORCE
        number = chance.choice([*range(1, 40), 16_380, 16_390, MAX_RULE_ID - 5])
        if all(number != limit.id for limit in limits):
            epoch = chance.choice([0, 0, 1, 63, 64, 65_535, 65_536, 65_600])
            limits.append(
                Rule(id=number, name=f"limit-{number}", rate=rate, mode=mode, epoch=epoch)
            )
    return limits


def edited(chance: random.Random, limit: Rule) -> Rule:
    """Whatever staff may change while records stand: not what a remainder is measured in."""
    rate = limit.rate
    match chance.choice(["epoch", "cost", "window", "quota", "mode"]):
        case "epoch":
            return replace(limit, epoch=limit.epoch + 1)
        case "cost":
            return replace(limit, rate=replace(rate, cost=3 - rate.cost))
        case "window":
            window_us = 90_000 if rate.window_us != 90_000 else 30_000
            new = replace(rate, window_us=window_us)
            return replace(limit, rate=new) if new.denominator == rate.denominator else limit
        case "quota" if rate.algorithm is not Algorithm.TOKEN_BUCKET:
            return replace(limit, rate=replace(rate, quota=max(2, rate.quota // 2)))
        case _:
            mode = Mode.ENFORCE if limit.mode is Mode.SHADOW else Mode.SHADOW
            return replace(limit, mode=mode)


@pytest.mark.parametrize("denials", [False, True], ids=["plain", "with blocks and charged denials"])
@pytest.mark.parametrize("seed", range(4))
def test_any_requests_leave_the_buckets_that_the_arithmetic_says(limiter, seed, denials):
    """Many limits per bucket, of which requests match different ones, edited in between."""
    chance = random.Random(f"{seed}{denials}")
    limits = some_limits(chance, 12, denials=denials)
    of_whom = {limit.id: chance.choice([A, B]) for limit in limits}
    model, now_us = Model(), clock_us(limiter)
    for who in (A, B):
        model.buckets[who] = (now_us, foreign(chance, now_us, range(50, 9_000)))
        store(limiter, model, who)
    quickly = 0
    for _ in range(250):
        if chance.random() < 0.1:
            number = chance.randrange(len(limits))
            limits[number] = edited(chance, limits[number])
        most = chance.choice([1, 2, 3, len(limits)])
        chosen = chance.sample(limits, chance.randint(1, min(most, len(limits))))
        targets = in_order(Target(limit, of_whom[limit.id]) for limit in chosen)
        general = chance.random() < 0.3
        quick = not general and not any(limit.rate.block_us for limit in chosen)
        reply = checked(limiter, targets, general=general)
        assert reply == model.check(targets, reply[1], quick)
        quickly += quick and all(ok == 1 for ok in reply[2::4])
        for who in (A, B):
            agree(limiter, model, who)
        if chance.random() < 0.1:
            time.sleep(chance.random() * 0.02)
    assert denials or quickly > 20
    for who in (A, B):
        lasts(limiter, model, who)


@pytest.mark.parametrize("algorithm", PLAIN)
def test_the_last_that_fits_is_still_done_quickly(limiter, algorithm):
    limit = rule(algorithm, 7, 60_000_000, burst=3, cost=3 if algorithm is PLAIN[0] else 7)
    for whom in ([A], [B, "c" * len(A)]):
        packed, digests = limiter._pack([Target(limit, who) for who in whom])
        first, second = (limiter.redis.ask(packed.check(digests), "check") for _ in range(2))
        assert is_quick(first)
        assert not is_quick(second)
        assert second[0] == 0


@pytest.mark.parametrize("general", [False, True], ids=["quick", "general"])
@pytest.mark.parametrize("algorithm", PLAIN)
def test_what_a_bucket_has_seen_is_the_least_that_its_time_is(limiter, algorithm, general):
    """As after the server's clock was set back: a bucket's time stands still, in all buckets of
    the request, and its key stays for as long as its records have to go from there."""
    limit = rule(algorithm, quota=3, window_us=1_000_000)
    other = rule(quota=50, number=2, window_us=1_000_000)
    model = Model()
    ahead_us = clock_us(limiter) + 5_000_000
    model.buckets[A] = (ahead_us, {999 * 4: (0, ahead_us + 400_000, 7, 0)})
    store(limiter, model, A)
    targets = [Target(limit, A), Target(other, B)]
    for _ in range(5):
        reply = checked(limiter, targets, general=general)
        assert reply[1] == ahead_us
        assert reply == model.check(targets, ahead_us, not general)
        agree(limiter, model, A)
        agree(limiter, model, B)
    assert not reply[0]
    lasts(limiter, model, A)


@pytest.mark.parametrize("general", [False, True], ids=["quick", "general"])
def test_700_000_a_second_is_exactly_that(limiter, general):
    limits = [
        Rule(id=n, name=f"limit-{n}", rate=Rate(algorithm, 700_000, 1_000_000, 700_000, cost))
        for n, (algorithm, cost) in enumerate([(a, c) for a in PLAIN for c in (1, 3)], start=1)
    ]
    model = Model()
    targets = [Target(limit, A) for limit in limits]
    for _ in range(60):
        reply = checked(limiter, targets, general=general)
        assert reply == model.check(targets, reply[1], not general)
        agree(limiter, model, A)


LARGEST = {
    "sixty million at once": Rate(Algorithm.TOKEN_BUCKET, 94_906_249, 1_000_000, 94_906_249, 10**7),
    "burst and window": Rate(Algorithm.TOKEN_BUCKET, 71, MAX_WINDOW_US, 71 * 71 - 1, 71),
    "fixed": Rate(Algorithm.FIXED_WINDOW, MAX_QUOTA, MAX_WINDOW_US, MAX_QUOTA, MAX_QUOTA // 3),
    "sliding": Rate(Algorithm.SLIDING_WINDOW, MAX_QUOTA, 60_000_000, MAX_QUOTA, MAX_QUOTA // 3),
    "sliding for a year": Rate(
        Algorithm.SLIDING_WINDOW, 284_000_000, MAX_WINDOW_US, 1, 100_000_000
    ),
    "finest remainder": Rate(Algorithm.TOKEN_BUCKET, 99_999_999_977, MAX_WINDOW_US, 90_000, 29_999),
}


@pytest.mark.parametrize("general", [False, True], ids=["quick", "general"])
@pytest.mark.parametrize("rate", LARGEST.values(), ids=LARGEST)
def test_the_largest_numbers_are_held_exactly(limiter, rate, general):
    model, targets = Model(), [Target(Rule(id=MAX_RULE_ID, name="large", rate=rate), A)]
    if rate.algorithm is Algorithm.SLIDING_WINDOW:
        now_us = clock_us(limiter)
        start_us = now_us - now_us % rate.window_us
        used = (0, start_us + rate.window_us, rate.quota, 0)  # In the window before this.
        model.buckets[A] = (now_us, {MAX_RULE_ID * 4: used})
        store(limiter, model, A)
    verdicts = set()
    for _ in range(90):
        reply = checked(limiter, targets, general=general)
        assert reply == model.check(targets, reply[1], not general)
        agree(limiter, model, A)
        verdicts.add(reply[0])
    assert 0 in verdicts
