"""Blocks that a reset or an edit takes away from those who hold them."""

from __future__ import annotations

import time
from dataclasses import replace

from apps.ratelimits.policy.rules import MAX_WINDOW_US, Mode
from apps.ratelimits.storage.limiter import Target

from .elsewhere import Elsewhere, check, digests, make
from .leasing import held, leased, take_block
from .limiters import A, B, asked, limiter, meanwhile

__all__ = ["limiter"]


def test_a_reset_in_this_process_drops_its_blocks_at_once(limiter):
    targets, others = [Target(leased(), A)], [Target(leased(), B)]
    take_block(limiter, targets)
    limiter.reset([A])
    assert held(limiter) == 0
    assert limiter.check(targets).remaining == 99
    take_block(limiter, others)
    limiter.reset([A])
    assert held(limiter)


def test_a_block_that_was_on_its_way_during_a_reset_is_not_kept(limiter, monkeypatch):
    targets = [Target(leased(), A)]
    take_block(limiter, targets)
    while held(limiter):
        limiter.check(targets)
    resets = []
    meanwhile(monkeypatch, limiter, lambda: resets.append(limiter.reset([A])))
    assert limiter.check(targets).allowed
    assert resets
    assert held(limiter) == 0


def test_a_block_that_is_kept_while_another_thread_resets_does_not_stay(limiter, monkeypatch):
    targets = [Target(leased(), A)]
    take_block(limiter, targets)
    while held(limiter):
        limiter.check(targets)
    keep = limiter.leases.keep

    def slow(*arguments):
        limiter.reset([A])  # Another thread's turn comes between the comparison and this.
        return keep(*arguments)

    monkeypatch.setattr(limiter.leases, "keep", slow)
    assert limiter.check(targets).allowed
    assert held(limiter) == 0


def test_an_edit_of_another_limit_keeps_the_block_and_one_of_this_does_not(limiter):
    limit = leased(1_000, 50)
    take_block(limiter, [Target(limit, A)])
    limiter.forget_rules()
    before = asked(limiter)
    assert limiter.check([Target(replace(limit, message="Slower, please."), A)]).allowed
    assert asked(limiter) == before
    for edited in (
        replace(limit, epoch=1),
        leased(900, 50),
        leased(1_000, 50, cost=2),
        leased(1_000, 50, window_us=MAX_WINDOW_US // 2),
        replace(limit, lease=0),
        replace(limit, mode=Mode.SHADOW),
        replace(limit, id=2),
    ):
        take_block(limiter, [Target(limit, A)])
        before = asked(limiter)
        limiter.check([Target(edited, A)])
        assert asked(limiter) == before + 1, edited


def test_a_reset_in_one_process_drops_the_blocks_of_another_within_a_second(engine):
    make(quota=100_000, lease=1_000, window_unit=86_400)
    engine.refresh()
    elsewhere = Elsewhere()
    try:
        units = 0
        while units < 100:
            _, _, units = elsewhere.check("192.0.2.1")
        engine.reset(digests(engine, "192.0.2.1"))
        began, served = time.monotonic(), 0
        while elsewhere.check("192.0.2.1")[2]:
            served += 1
            assert time.monotonic() < began + 1
            time.sleep(0.02)
        assert served < units - 20
        assert check(engine, "192.0.2.1").remaining >= 100_000 - 3
    finally:
        elsewhere.stop()
