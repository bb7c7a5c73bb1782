"""Blocks that a limiter takes, on real servers: how large, how long, and where none is taken."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from apps.ratelimits.policy.rules import Mode
from apps.ratelimits.storage.limiter import Target

from .leasing import held, leased, take_block
from .limiters import A, B, asked, limiter, make_limiter, rule, url_of

__all__ = ["limiter"]


@pytest.mark.parametrize(("quota", "cost", "lease"), [(500, 1, 64), (500, 3, 64), (7, 1, 7)])
def test_one_process_admits_exactly_the_quota(limiter, quota, cost, lease):
    targets = [Target(leased(quota, lease, cost=cost), A)]
    before = asked(limiter)
    admitted = 0
    while (decision := limiter.check(targets)).allowed:
        admitted += 1
        assert decision.remaining == quota - admitted * cost
    assert admitted == quota // cost
    assert quota < 100 or asked(limiter) - before < admitted / 4
    assert not limiter.check(targets).allowed


async def test_the_event_loop_admits_exactly_the_quota(limiter):
    import asyncio

    targets = [Target(leased(500, 64), A)]
    admitted = 0
    for _ in range(12):
        decisions = await asyncio.gather(*(limiter.acheck(targets) for _ in range(50)))
        admitted += sum(decision.allowed for decision in decisions)
    assert admitted == 500
    await limiter.aclose()


def test_threads_of_one_process_admit_exactly_the_quota(limiter):
    targets = [Target(leased(3_000, 50), A)]
    admitted = Counter()

    def count(number: int) -> None:
        while True:
            if limiter.check(targets).allowed:
                admitted[number] += 1
            elif not held(limiter):
                return

    threads = [threading.Thread(target=count, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted.values()) == 3_000


def test_blocks_are_at_most_the_lease_and_the_share_of_what_is_left(each_redis):
    limiter = make_limiter(each_redis.url, local_processes=4)
    limiter.client.flushdb()
    limits = [leased(100, 50, cost=2), leased(1_000, 20, number=2)]
    used, largest = [0, 0], 0
    while True:
        packed, whom = limiter._pack([Target(limit, A) for limit in limits])
        for _ in range(4):  # It wants as much as it can get.
            limiter.leases._held.pop((packed.key, whom), None)
        command = packed.check(whom, lease=25, share=limiter._share)
        reply = limiter.redis.ask(command, "check")
        if not reply[0]:
            break
        requests = reply[5] // 2
        assert reply[9] == requests  # Of all limits the same number of requests.
        shares = [(100 - used[0]) // 8 // 2, (1_000 - used[1]) // 8]
        assert requests == max(1, min(25, 20, *shares))
        used = [used[0] + 2 * requests, used[1] + requests]
        assert [reply[4], reply[8]] == used
        largest = max(largest, requests)
    assert used == [100, 50]
    assert largest == 6
    limiter.close()


def test_a_lease_takes_no_more_than_its_limits_smallest_block(limiter):
    packed, whom = limiter._pack([Target(leased(1_000, 9, cost=2), A)])
    assert packed.most_leased == 4
    reply = limiter.redis.ask(packed.check(whom, lease=1_000, share=1), "check")
    assert reply[5] == 8


@pytest.mark.parametrize(
    "beside",
    [rule(quota=1_000, number=2), leased(1_000, number=2, mode=Mode.SHADOW)],
    ids=["is not leased", "is shadow"],
)
def test_no_block_is_taken_where_another_matching_limit(limiter, beside):
    targets = [Target(leased(1_000, 50), A), Target(beside, B)]
    limiter.peek(targets)  # A server that lacks the script is asked twice.
    before = asked(limiter)
    for _ in range(30):
        assert limiter.check(targets).allowed
    assert asked(limiter) == before + 30
    assert held(limiter) == 0
    assert limiter.peek(targets[1:]).verdicts[0].standing.remaining == 970


def test_a_look_takes_no_block(limiter):
    targets = [Target(leased(1_000, 50), A)]
    take_block(limiter, targets)
    other = make_limiter(url_of(limiter))
    before = other.peek(targets).remaining
    assert other.peek(targets).remaining == before
    assert limiter.peek(targets).remaining == before
    other.close()


def test_a_late_reply_does_not_prolong_a_block(limiter, monkeypatch):
    window_us = 400_000
    targets = [Target(leased(10_000, 50, window_us=window_us), A)]
    take_block(limiter, targets)
    ask = limiter.redis.connections.ask

    def late(command, *more):
        reply = ask(command, *more)
        time.sleep(0.15)
        return reply

    while held(limiter):
        limiter.check(targets)
    monkeypatch.setattr(limiter.redis.connections, "ask", late)
    sent_s = time.monotonic()
    limiter.check(targets)
    (lease,) = limiter.leases._held.values()
    reply, asked_s, ends_s = lease.taken
    assert sent_s <= asked_s < sent_s + 0.05
    assert ends_s - asked_s == pytest.approx((reply[3] + window_us - reply[1]) / 1e6, abs=1e-4)
    assert ends_s < time.monotonic() + window_us / 1e6 - 0.14 or reply[1] - reply[3] < 150_000


def test_a_bucket_ahead_of_the_servers_clock_gives_no_block_beyond_its_window(limiter):
    """As where the clock was set back: the bucket's time stands still until it is reached."""
    limit = leased(1_000, 50, window_us=60_000_000)
    targets = [Target(limit, A)]
    ahead_us = 3_600_000_000
    seconds, micros = limiter.client.time()
    seen_us = (seconds * 1_000_000 + micros + ahead_us) // 60_000_000 * 60_000_000 + 20_000_000
    head = b"\x02" + seen_us.to_bytes(7, "little")
    limiter.client.set(limiter.keys.bucket(A), head)
    take_block(limiter, targets)
    (lease,) = limiter.leases._held.values()
    reply, asked_s, ends_s = lease.taken
    assert (reply[1], reply[3]) == (seen_us, seen_us - 20_000_000)
    assert ends_s - asked_s == pytest.approx(40, abs=1e-3)
    # All that is used so is counted in that one window.
    assert limiter.peek(targets).remaining == 1_000 - reply[4]
    assert limiter.client.pttl(limiter.keys.bucket(A)) <= 40_001


def test_a_block_is_served_while_redis_is_away(limiter, monkeypatch):
    targets = [Target(leased(1_000, 50), A)]
    for _ in range(40):
        limiter.check(targets)
    left = held(limiter)
    assert left

    def away(command, *more):
        raise ConnectionError("away")

    monkeypatch.setattr(limiter.redis.connections, "ask", away)
    decisions = [limiter.check(targets) for _ in range(left + 1)]
    degraded = [decision.verdicts[0].degraded for decision in decisions]
    assert degraded == [False] * left + [True]
