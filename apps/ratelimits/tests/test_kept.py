"""What an edit that keeps the usage does to whom: the arithmetic, and the script beside it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.ratelimits.policy import algorithms
from apps.ratelimits.policy.kept import Kept, is_counted, is_denied, state
from apps.ratelimits.policy.rules import Algorithm, Rate
from apps.ratelimits.storage.counted import sample
from apps.ratelimits.storage.limiter import Target

from .limiters import A, limiter, rule

__all__ = ["limiter"]

MINUTE_US = 60_000_000
NOW_US = 1_800_000_000_000_000 + 20_000_000  # 20 s into a minute, and into an hour.
EXACT = [Algorithm.SLIDING_LOG, Algorithm.CONCURRENCY]


def rate(algorithm: Algorithm, quota: int, window_us: int = MINUTE_US, **changes) -> Rate:
    return Rate(algorithm, quota, window_us, **{"burst": quota, **changes})


def used(algorithm: Algorithm, units: int, at: Rate, now_us: int = NOW_US) -> Kept:
    """Stored when a client has just used so many units."""
    end_us = now_us - now_us % at.window_us + at.window_us
    match algorithm:
        case Algorithm.TOKEN_BUCKET:
            whole, part = at.emission(units)
            return Kept(now_us + whole, part)
        case Algorithm.FIXED_WINDOW:
            return Kept(end_us, units)
        case Algorithm.SLIDING_WINDOW:
            return Kept(end_us + at.window_us, units)
        case Algorithm.SLIDING_LOG:
            return Kept(now_us + at.window_us, units, entries=((now_us, 1),) * units)
        case _:
            return Kept(n1=units)


@pytest.mark.parametrize("algorithm", [a for a in Algorithm if a is not Algorithm.TOKEN_BUCKET])
def test_of_a_smaller_quota_the_units_used_count(algorithm):
    kept = used(algorithm, 30, rate(algorithm, 100))
    assert not is_denied(rate(algorithm, 31), kept, NOW_US)
    assert is_denied(rate(algorithm, 30), kept, NOW_US)


def test_a_token_bucket_keeps_the_time_until_it_is_full_again():
    """30 of 100 a minute are 18 s of refilling: of 50 a minute that is 15 units, of 10 it is 3."""
    kept = used(Algorithm.TOKEN_BUCKET, 30, rate(Algorithm.TOKEN_BUCKET, 100))
    for quota, left in ((50, 35), (10, 7), (200, 140)):
        new = rate(Algorithm.TOKEN_BUCKET, quota)
        found = algorithms.standing(new, 1, kept.ends_us, kept.n1, 0, NOW_US)
        assert found.remaining == left
        assert not is_denied(new, kept, NOW_US)
    # 18 s of debt are let in where the burst takes longer than that to refill.
    assert is_denied(rate(Algorithm.TOKEN_BUCKET, 100, burst=30), kept, NOW_US)
    assert not is_denied(rate(Algorithm.TOKEN_BUCKET, 100, burst=31), kept, NOW_US)


@pytest.mark.parametrize("algorithm", [Algorithm.FIXED_WINDOW, Algorithm.SLIDING_WINDOW])
def test_another_window_begins_afresh_but_where_both_end_together(algorithm):
    kept = used(algorithm, 30, rate(algorithm, 100))
    hour = rate(algorithm, 10, 60 * MINUTE_US)
    assert not is_counted(hour, kept, NOW_US)
    assert not is_denied(hour, kept, NOW_US)
    last_us = NOW_US + 59 * MINUTE_US  # The last minute of the hour ends with it.
    kept = used(algorithm, 30, rate(algorithm, 100), last_us)
    if algorithm is Algorithm.FIXED_WINDOW:
        assert is_denied(hour, kept, last_us)
    else:
        # It is stored by when the window after it ends, which is in the next hour.
        assert not is_denied(hour, kept, last_us)


def test_of_a_log_what_is_older_than_the_new_window_leaves():
    entries = tuple((NOW_US - age * 1_000_000, 1) for age in (50, 40, 30, 20, 10))
    kept = Kept(NOW_US + MINUTE_US, 5, entries=entries)
    assert is_denied(rate(Algorithm.SLIDING_LOG, 5), kept, NOW_US)
    half = rate(Algorithm.SLIDING_LOG, 3, MINUTE_US // 2)
    assert not is_denied(half, kept, NOW_US)
    assert is_denied(rate(Algorithm.SLIDING_LOG, 2, MINUTE_US // 2), kept, NOW_US)


def test_slots_stay_held_whatever_their_lease_is_by_now():
    kept = used(Algorithm.CONCURRENCY, 3, rate(Algorithm.CONCURRENCY, 5))
    assert is_denied(rate(Algorithm.CONCURRENCY, 3, 1_000_000), kept, NOW_US)
    assert not is_denied(rate(Algorithm.CONCURRENCY, 4), kept, NOW_US)
    assert is_counted(rate(Algorithm.CONCURRENCY, 4), kept, NOW_US)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_block_stays_while_the_limit_blocks_at_all(algorithm):
    kept = Kept(blocked_until_us=NOW_US + 1)
    blocking = rate(algorithm, 10, block_us=1_000_000)
    assert is_denied(blocking, kept, NOW_US)
    assert is_counted(blocking, kept, NOW_US)
    assert not is_denied(rate(algorithm, 10), kept, NOW_US)
    assert not is_denied(blocking, kept, NOW_US + 1)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_of_whom_nothing_is_stored_nothing_counts(algorithm):
    assert not is_counted(rate(algorithm, 1), Kept(), NOW_US)
    assert not is_denied(rate(algorithm, 1), Kept(), NOW_US)


# Against the real script.

RATES = st.builds(
    lambda quota, window_s, burst, cost: {
        "quota": quota,
        "window_us": window_s * 1_000_000,
        "burst": burst,
        "cost": min(cost, quota, burst),
    },
    st.integers(1, 12),
    st.sampled_from([1, 2, 3, 4, 60, 61, 120, 3_600]),
    st.integers(1, 12),
    st.integers(1, 3),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    algorithm=st.sampled_from(list(Algorithm)),
    old=RATES,
    new=RATES,
    requests=st.integers(0, 15),
    blocks=st.tuples(st.booleans(), st.booleans()),
)
def test_the_script_makes_of_it_what_the_arithmetic_says(
    limiter, algorithm, old, new, requests, blocks
):
    """Charged at one rate, looked at with another, at the server's own time."""
    limiter.client.flushdb()
    before, after = (
        rule(algorithm, **{**values, "cost": 1 if algorithm in EXACT[1:] else values["cost"]},
             **({"block_us": 5_000_000} if block else {}))
        for values, block in zip((old, new), blocks, strict=True)
    )  # fmt: skip
    for _ in range(requests):
        limiter.forget(None)
        limiter.check([Target(before, A)])
    kept = found_one(limiter, after)
    limits, whom = limiter._pack([Target(after, A)])
    reply = limiter.redis.ask(limiter._asked(limits, whom, False)[0], "check", whom[0])
    _, now_us, ok, *left = limits.read(reply)
    assert (ok != 1) == is_denied(after.rate, kept, now_us)
    if algorithm not in EXACT:
        idle = algorithms.decide(after.rate, state(after.rate, kept), now_us)[1]
        assert left == [idle.a, idle.b, idle.c]


def found_one(limiter, after) -> Kept:
    found = sample(limiter.client, limiter.keys, after)
    assert found.is_whole
    (server,) = found.servers
    assert len(server.kept) <= 1
    return server.kept[0] if server.kept else Kept()
