"""Leased limits, those who take blocks of them, and what they hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

from apps.ratelimits.policy.rules import MAX_WINDOW_US, Algorithm, Rule
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.leases import Leases
from apps.ratelimits.storage.limiter import RateLimiter, Target
from apps.ratelimits.storage.packing import PackedLimits

from .limiters import A, make_limiter, rule, url_of

KEYS = Keys("iota:")
START_US = 60_000_000_000


def leased(
    quota: int = 100, lease: int = 10, window_us: int = MAX_WINDOW_US, **changes: Any
) -> Rule:
    """The longest window, of which none ends while the tests run."""
    return rule(Algorithm.FIXED_WINDOW, quota, window_us, lease=lease, **changes)


def packed_of(*rules: Rule) -> PackedLimits:
    return PackedLimits(KEYS, rules, [0] * len(rules))


class Clock:
    def __init__(self, now_us: int = START_US) -> None:
        self.now_us = now_us

    def __call__(self) -> float:
        return self.now_us / 1_000_000


class Count:
    """What check.lua does for leased limits of one identity."""

    def __init__(self, share: int) -> None:
        self.share = share
        self.used: Counter[tuple[int, int]] = Counter()

    def ask(self, packed: PackedLimits, size: int, now_us: int) -> list[int]:
        places = [(r.id, now_us - now_us % r.rate.window_us) for r in packed.rules]
        requests = max(1, min(map(self._requests, packed.rules, places, [size] * len(places))))
        fits = [
            self.used[place] + r.rate.cost * requests <= r.rate.quota
            for r, place in zip(packed.rules, places, strict=True)
        ]
        reply = [int(all(fits)), now_us]
        for r, place, fit in zip(packed.rules, places, fits, strict=True):
            taken = r.rate.cost * requests if reply[0] else 0
            self.used[place] += taken
            reply += [int(fit), place[1], self.used[place], taken]
        return reply

    def _requests(self, r: Rule, place: tuple[int, int], size: int) -> int:
        free = r.rate.quota - self.used[place]
        return min(size, r.lease // r.rate.cost, free // self.share // r.rate.cost)


class Process:
    """One that asks ``count``; its replies come when they are fetched."""

    def __init__(self, packed: PackedLimits, count: Count, clock: Clock) -> None:
        self.packed, self.count, self.clock = packed, count, clock
        self.leases = Leases(clock)
        self.sent: list[tuple[int, float]] = []
        self.come: list[tuple[list[int], int, float]] = []

    def request(self) -> bool:
        """Whether it was served at once; else it is on its way."""
        if self.leases.serve(self.packed, (A,)) is not None:
            return True
        self.sent.append((self.leases.next_size(self.packed, (A,)), self.clock()))
        return False

    def reach(self, index: int) -> bool:
        """One that was sent reaches the server. Whether it was allowed."""
        size, asked_s = self.sent.pop(index % len(self.sent))
        reply = self.count.ask(self.packed, size, self.clock.now_us)
        self.come.append((reply, size, asked_s))
        return bool(reply[0])

    def fetch(self, index: int) -> None:
        reply, size, asked_s = self.come.pop(index % len(self.come))
        if reply[0]:
            self.leases.keep(self.packed, (A,), reply, size, asked_s)

    def held(self) -> int:
        lease = self.leases._held.get((self.packed.key, (A,)))
        return len(lease.uses) if lease else 0


def grow(process: Process) -> None:
    """Use up what is held and take the next block."""
    while process.request():
        pass
    process.reach(0)
    process.fetch(0)


def held(limiter: RateLimiter) -> int:
    return sum(len(lease.uses) for lease in limiter.leases._held.values())


def take_block(limiter: RateLimiter, targets: list[Target]) -> None:
    while not held(limiter):
        assert limiter.check(targets).allowed


def used(limiter: RateLimiter, target: Target) -> int:
    """Units that Redis has counted, blocks that are held included."""
    other = make_limiter(url_of(limiter))
    remaining = other.peek([target]).remaining
    other.close()
    assert remaining is not None
    return target.rule.rate.quota - remaining
