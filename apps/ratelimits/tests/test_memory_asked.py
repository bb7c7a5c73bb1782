"""Denials that a limiter remembers, on real servers: asked once, and again where it must be."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from apps.ratelimits.policy.rules import Algorithm, Counts, Mode
from apps.ratelimits.storage.limiter import Target

from .limiters import REMEMBERED, A, B, asked, limiter, make_limiter, meanwhile, rule, url_of

__all__ = ["limiter"]


def use_up(limiter, targets):
    """The first denial."""
    while (decision := limiter.check(targets)).allowed:
        pass
    return decision


@pytest.mark.parametrize("algorithm", REMEMBERED)
def test_the_second_denial_asks_nobody(limiter, algorithm):
    targets = [Target(rule(algorithm, quota=2), A)]
    first = use_up(limiter, targets)
    before = asked(limiter)
    again = [limiter.check(targets) for _ in range(20)]
    assert asked(limiter) == before
    assert not any(decision.allowed for decision in again)
    waits = [first.retry_after_us, *(decision.retry_after_us for decision in again)]
    assert waits == sorted(waits, reverse=True)
    assert 0 < waits[-1] < waits[0] <= 120_000_000
    assert again[-1].violated == first.violated
    assert limiter.check([Target(targets[0].rule, B)]).allowed


async def test_the_second_denial_asks_nobody_on_the_event_loop(limiter):
    targets = [Target(rule(quota=1), A)]
    await limiter.acheck(targets)
    assert not (await limiter.acheck(targets)).allowed
    before = asked(limiter)
    assert not (await limiter.acheck(targets)).allowed
    assert not limiter.check(targets).allowed
    assert asked(limiter) == before
    await limiter.aclose()


@pytest.mark.parametrize("algorithm", REMEMBERED)
@pytest.mark.parametrize("block_us", [0, 30_000])
def test_in_real_time_it_decides_as_a_limiter_without_memory(each_redis, algorithm, block_us):
    """Both ask in turn about identities of their own, with equal limits and windows."""
    with_memory, without = make_limiter(each_redis.url), make_limiter(each_redis.url)
    with_memory.client.flushdb()
    limit = rule(algorithm, quota=3, window_us=50_000, block_us=block_us)
    began_s, remembered = time.monotonic(), 0
    passed = {A: [], B: []}
    # Longer where the machine has other things to do.
    while (lasted_s := time.monotonic() - began_s) < 0.5 or (remembered <= 50 and lasted_s < 10):
        before = len(with_memory.denials)
        began = time.monotonic()
        if with_memory.check([Target(limit, A)]).allowed:
            passed[A].append(began)
        remembered += before
        if without.traced_check([Target(limit, B)])[1].allowed:
            passed[B].append(began)
        without.forget(None)
    assert remembered > 50
    # Each moment at which one allowed the other did too, but for the trip between them.
    assert len(passed[A]) >= 9 or block_us
    # After a stall one has a new window in the trip between them, and the other not yet.
    assert abs(len(passed[A]) - len(passed[B])) <= max(3, len(passed[B]) // 4)
    late = [min(abs(one - other) for other in passed[A]) for one in passed[B]]
    assert sorted(late)[len(late) // 2] < 0.008
    with_memory.close()
    without.close()


@pytest.mark.parametrize("algorithm", [Algorithm.FIXED_WINDOW, Algorithm.TOKEN_BUCKET])
def test_it_is_allowed_again_as_soon_as_the_time_is_over(limiter, algorithm):
    targets = [Target(rule(algorithm, quota=2, window_us=60_000), A)]
    for _ in range(4):
        first = use_up(limiter, targets)
        free_s = time.monotonic() + first.retry_after_us / 1e6
        asked_s = time.monotonic()
        while not limiter.check(targets).allowed:
            assert asked_s < free_s + 0.02
            asked_s = time.monotonic()


NOT_REMEMBERED = {
    "charges denials": rule(Algorithm.TOKEN_BUCKET, charge_denied=True, number=2),
    "is shadow": rule(mode=Mode.SHADOW, number=2),
    "counts by response": rule(counts=Counts.STATUS, statuses=((400, 499),), number=2),
    "counts slots": rule(Algorithm.CONCURRENCY, quota=100, number=2),
}


@pytest.mark.parametrize("beside", NOT_REMEMBERED.values(), ids=NOT_REMEMBERED)
def test_no_denial_is_remembered_where_a_matching_limit(limiter, beside):
    targets = [Target(rule(quota=1), A), Target(beside, A)]
    use_up(limiter, targets)
    before = asked(limiter)
    assert not limiter.check(targets).allowed
    assert asked(limiter) > before
    # Nor by itself, where it is what denies.
    alone = [Target(replace(beside, id=3), B)]
    for _ in range(5):
        limiter.check(alone)
    assert len(limiter.denials) == 0


def test_a_shadow_limit_counts_every_request_although_another_denies(limiter):
    shadow = rule(quota=1, mode=Mode.SHADOW, number=2, charge_denied=True)
    targets = [Target(rule(quota=1), A), Target(shadow, A)]
    assert [limiter.check(targets).allowed for _ in range(3)] == [True, False, False]


def test_a_look_always_asks(limiter):
    targets = [Target(rule(quota=1), A)]
    use_up(limiter, targets)
    assert len(limiter.denials) == 1
    other = make_limiter(url_of(limiter))
    other.reset([A])
    assert limiter.peek(targets).remaining == 1
    assert not limiter.check(targets).allowed
    other.close()


def test_a_reset_in_this_process_is_in_force_at_once(limiter):
    targets = [Target(rule(quota=1), A)]
    others = [Target(rule(quota=1), B)]
    use_up(limiter, targets)
    use_up(limiter, others)
    limiter.reset([A])
    assert limiter.check(targets).allowed
    before = asked(limiter)
    assert not limiter.check(others).allowed
    assert asked(limiter) == before


def test_an_answer_that_was_on_its_way_during_a_reset_is_not_kept(limiter, monkeypatch):
    targets = [Target(rule(quota=1), A)]
    limiter.check(targets)
    resets = []
    meanwhile(monkeypatch, limiter, lambda: resets.append(limiter.reset([A])))
    assert not limiter.check(targets).allowed
    assert len(limiter.denials) == 0
    assert limiter.check(targets).allowed


def test_an_answer_that_is_kept_while_another_thread_resets_does_not_stay(limiter, monkeypatch):
    targets = [Target(rule(quota=1), A)]
    limiter.check(targets)
    keep = limiter.denials.keep

    def slow(*arguments):
        limiter.reset([A])  # Another thread's turn comes between the comparison and this.
        keep(*arguments)

    monkeypatch.setattr(limiter.denials, "keep", slow)
    assert not limiter.check(targets).allowed
    assert limiter.check(targets).allowed


def test_another_ruleset_forgets_what_was_denied(limiter):
    targets = [Target(rule(quota=1), A)]
    use_up(limiter, targets)
    limiter.forget_rules()
    assert len(limiter.denials) == 0
    before = asked(limiter)
    assert not limiter.check(targets).allowed
    assert asked(limiter) == before + 1
