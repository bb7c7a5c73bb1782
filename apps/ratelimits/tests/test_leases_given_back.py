"""What a process took and did not use: given back at its end, to the window that it is of."""

from __future__ import annotations

import pytest

from apps.ratelimits.policy.identity import DIGEST_CHARS
from apps.ratelimits.storage import limiter as limiter_module
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.leases import Leases
from apps.ratelimits.storage.limiter import Target

from .elsewhere import check, make
from .leasing import Clock, held, leased, packed_of, take_block, used
from .limiters import A, B, limiter

__all__ = ["limiter"]


@pytest.mark.parametrize("cost", [1, 3])
def test_what_a_process_took_and_did_not_use_is_given_back_at_its_end(limiter, cost):
    targets = [
        Target(leased(1_000, 30, cost=cost), A),
        Target(leased(5_000, 60, cost=2, number=2), B),
    ]
    for _ in range(40):
        assert limiter.check(targets).allowed
    left = held(limiter)
    assert left
    assert used(limiter, targets[0]) == (40 + left) * cost
    assert limiter.give_back_leases() == 2
    assert [used(limiter, target) for target in targets] == [40 * cost, 40 * 2]
    assert held(limiter) == 0
    # Nothing is given back twice, and what is asked from now on is counted.
    assert limiter.give_back_leases() == 0
    assert limiter.check(targets).allowed
    assert used(limiter, targets[0]) - held(limiter) * cost == 41 * cost


def test_blocks_of_many_clients_are_given_back_in_parts(limiter, monkeypatch):
    monkeypatch.setattr(limiter_module, "MOST_GIVEN_BACK", 3)
    targets = [Target(leased(1_000, 30), name * DIGEST_CHARS) for name in "abcdefgh"]
    for target in targets:
        for _ in range(9):
            assert limiter.check([target]).allowed
    blocks = sum(bool(lease.uses) for lease in limiter.leases._held.values())
    assert blocks > 3
    assert limiter.give_back_leases() == blocks
    assert [used(limiter, target) for target in targets] == [9] * 8


def test_a_block_of_a_window_that_is_over_is_not_given_back_to_the_next():
    clock = Clock()
    packed = packed_of(leased(100, 10, 1_000_000))
    leases = Leases(clock)
    leases.keep(packed, (A,), [1, clock.now_us, 1, clock.now_us, 5, 5], 5, clock())
    clock.now_us += 1_000_000
    assert leases.give_up() == []
    assert len(leases) == 0


def test_where_redis_is_away_the_rest_is_lost_and_the_end_is_not_held_up(limiter, monkeypatch):
    take_block(limiter, [Target(leased(), A)])

    def away(command, *more):
        raise ConnectionError("away")

    monkeypatch.setattr(limiter.redis.connections, "ask", away)
    with pytest.raises(Unavailable):
        limiter.give_back_leases()
    assert held(limiter) == 0


def test_an_engine_that_stops_gives_back_what_it_took(engine):
    make(quota=100_000, lease=1_000, window_unit=86_400)
    engine.start()
    engine.refresh()
    for _ in range(50):
        assert check(engine, "192.0.2.1").allowed
    assert held(engine.limiter)
    engine.stop()
    assert held(engine.limiter) == 0
    engine.start()
    assert check(engine, "192.0.2.1").remaining == 100_000 - 51
