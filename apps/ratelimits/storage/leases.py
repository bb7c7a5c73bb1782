"""Blocks of a quota that this process has taken, and serves from memory.

For fixed windows only. A block is charged in Redis when it is taken and ends with its window, so
that all processes together never admit more than the quota; what a process does not use of it is
lost, so that they may admit less. Blocks follow the demand: they start at one request, grow while
they are used up at once and shrink when they are not, and never take more than a share of what
is left, so that near its end a quota is counted singly.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection

from ..policy.decision import Decision
from .packing import PackedLimits

MOST_LEASES = 10_000
FAST_S = 0.05
"""A block that is used up sooner was too small: the next is twice as large."""
SLOW_S = 0.5
"""One that lasts longer was too large: the next is half as large."""

Whom = tuple[bytes, tuple[str, ...]]
"""The packed limits and the digests: a limit that an edit of others left alone keeps its lease."""


class _Lease:
    __slots__ = ("asked_s", "ends_s", "reply", "size", "uses")

    def __init__(self) -> None:
        self.size = 1
        self.asked_s = 0.0
        self.ends_s = 0.0
        self.reply: list[int] = []
        # One pop is one use: no two threads get the same.
        self.uses: list[int] = []


class Leases:
    """Serves requests of leased limits, and says how large the next block is to be."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._held: dict[Whom, _Lease] = {}

    def serve(self, packed: PackedLimits, digests: tuple[str, ...]) -> Decision | None:
        """An allowed request, or None where nothing is left and Redis is to be asked."""
        lease = self._held.get((packed.key, digests))
        if lease is None:
            return None
        now_s = self._clock_s()
        if now_s >= lease.ends_s:
            return None
        try:
            left = lease.uses.pop()
        except IndexError:
            return None
        return _decision(packed, lease.reply, left, int((now_s - lease.asked_s) * 1_000_000))

    def next_size(self, packed: PackedLimits, digests: tuple[str, ...]) -> int:
        """For how many requests to ask, at most."""
        lease = self._held.get((packed.key, digests))
        if lease is None:
            return 1
        lasted_s = self._clock_s() - lease.asked_s
        if lasted_s < FAST_S:
            return min(lease.size * 2, packed.most_leased)
        return max(1, lease.size // 2) if lasted_s > SLOW_S else lease.size

    def keep(
        self,
        packed: PackedLimits,
        digests: tuple[str, ...],
        reply: list[int],
        size: int,
        asked_s: float,
    ) -> Decision:
        """Take what an allowing reply says was charged; one use of it is this request's.

        ``asked_s``: when the request for it was sent. The block's end is counted from there, so
        that none is used after its window.
        """
        starts, taken = reply[3::4], reply[5]
        uses = taken // packed.rules[0].rate.cost - 1
        ends_us = min(
            start + rule.rate.window_us for rule, start in zip(packed.rules, starts, strict=True)
        )
        whom = packed.key, digests
        with self._lock:
            lease = self._held.get(whom)
            if lease is None or lease.reply[3::4] != starts:
                while len(self._held) >= MOST_LEASES:
                    del self._held[next(iter(self._held))]
                lease = self._held[whom] = _Lease()
            lease.size, lease.asked_s, lease.reply = size, asked_s, reply
            lease.ends_s = asked_s + (ends_us - reply[1]) / 1_000_000
            # Added: another thread may have taken a block at the same time.
            lease.uses.extend(range(uses))
        return _decision(packed, reply, uses, 0)

    def forget(self, digests: Collection[str] | None) -> None:
        """Identities were reset, or all: what was charged for these blocks is free again."""
        with self._lock:
            for whom in list(self._held):
                if digests is None or not set(digests).isdisjoint(whom[1]):
                    del self._held[whom]


def _decision(packed: PackedLimits, reply: list[int], left: int, later_us: int) -> Decision:
    """As if each request had been counted by itself: what is left of the block is not used yet."""
    counted = reply.copy()
    for i, rule in enumerate(packed.rules):
        counted[4 + i * 4] -= left * rule.rate.cost
    return Decision.from_reply(packed, counted, later_us=later_us)
