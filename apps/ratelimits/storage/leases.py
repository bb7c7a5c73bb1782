"""Blocks of a quota that this process has taken, and serves from memory.

For fixed windows only. A block is charged in Redis when it is taken and ends with its window, so
that all processes together never admit more than the quota; what a process does not use of it is
lost, so that they may admit less. Blocks follow the demand: they start at one request, grow while
they are used up at once and shrink when they are not, and never take more than a share of what
is left, so that near its end a quota is counted singly. However many threads or tasks ask at the
same time, one of them asks for a block and the others for their own request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..policy.algorithms import State
from ..policy.decision import Charge, Decision
from .forks import BeginsAnew
from .packing import PackedLimits

MOST_LEASES = 10_000
FAST_S = 0.05
"""A block that is used up sooner was too small: the next is twice as large."""
SLOW_S = 0.5
"""One that lasts longer was too large: the next is half as large."""
LOST_S = 1.0
"""A block that was asked for and has not come by then does not come: another may be asked for."""

Whom = tuple[bytes, tuple[str, ...]]
"""The packed limits and the digests: a limit that an edit of others left alone keeps its lease."""


class _Taken(NamedTuple):
    """What Redis said last, when it was asked, and until when what it gave may be used."""

    reply: list[int]
    asked_s: float
    ends_s: float

    @property
    def starts(self) -> Sequence[int]:
        """Of each limit's window."""
        return self.reply[3::4]


class _Lease:
    """Of one window of each of its limits."""

    __slots__ = ("asking_until_s", "packed", "size", "taken", "uses")

    def __init__(self, packed: PackedLimits, taken: _Taken, before: _Lease | None) -> None:
        self.packed = packed
        self.taken = taken
        self.size: int = before.size if before else 1
        self.asking_until_s: float = before.asking_until_s if before else 0.0
        # One pop is one use: no two threads get the same.
        self.uses: list[int] = []


class Leases(BeginsAnew):
    """Serves requests of leased limits, and says how large the next block is to be."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        super().__init__()

    def _begin(self) -> None:
        """Also in a forked child: its parent serves what it has taken, and nobody else."""
        self._lock = threading.Lock()
        self._held: dict[Whom, _Lease] = {}

    def __len__(self) -> int:
        return len(self._held)

    def serve(self, packed: PackedLimits, digests: tuple[str, ...]) -> Decision | None:
        """An allowed request, or None where nothing is left and Redis is to be asked."""
        lease = self._held.get((packed.key, digests))
        if lease is None:
            return None
        now_s = self._clock_s()
        reply, asked_s, ends_s = lease.taken
        if now_s >= ends_s:
            return None
        try:
            left = lease.uses.pop()
        except IndexError:
            return None
        later_us = int((now_s - asked_s) * 1_000_000)
        return Decision.from_reply(True, packed, (reply, left), later_us=later_us)

    def next_size(self, packed: PackedLimits, digests: tuple[str, ...]) -> int:
        """For how many requests to ask, at most."""
        lease = self._held.get((packed.key, digests))
        if lease is None:
            return 1
        with self._lock:
            now_s = self._clock_s()
            if now_s < lease.asking_until_s:
                return 1
            lasted_s = now_s - lease.taken.asked_s
            if lasted_s < FAST_S:
                lease.size *= 2
            elif lasted_s > SLOW_S:
                lease.size = max(1, lease.size // 2)
            lease.size = min(lease.size, packed.most_leased)
            lease.asking_until_s = now_s + LOST_S
            return lease.size

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
        uses = reply[5] // packed.rules[0].rate.cost - 1
        ends_us = min(
            start + rule.rate.window_us
            for rule, start in zip(packed.rules, reply[3::4], strict=True)
        )
        taken = _Taken(reply, asked_s, asked_s + (ends_us - reply[1]) / 1_000_000)
        with self._lock:
            self._add((packed.key, digests), packed, taken, size, uses)
        return Decision.from_reply(True, packed, (reply, uses))

    def _add(self, whom: Whom, packed: PackedLimits, taken: _Taken, size: int, uses: int) -> None:
        lease = self._held.get(whom)
        if lease is None or lease.taken.starts != taken.starts:
            if (
                lease is not None
                and taken.asked_s < lease.taken.asked_s
                and taken.reply[1] < lease.taken.reply[1]
            ):
                return  # Overtaken by the first reply of a later window: its own is over.
            # Put last: who is forgotten first has been here for longest.
            self._held.pop(whom, None)
            while len(self._held) >= MOST_LEASES:
                del self._held[next(iter(self._held))]
            lease = self._held[whom] = _Lease(packed, taken, lease)
        if size >= lease.size:
            lease.asking_until_s = 0.0
        if taken.reply[1] >= lease.taken.reply[1]:
            lease.taken = taken
        # Added: another thread may have taken a block at the same time.
        lease.uses.extend(range(uses))

    def forget(self, digests: Collection[str] | None) -> None:
        """Identities were reset, or all: what was charged for these blocks is free again."""
        with self._lock:
            for whom in list(self._held):
                if digests is None or not set(digests).isdisjoint(whom[1]):
                    del self._held[whom]

    def give_up(self) -> list[Charge]:
        """What of all blocks is not used and can be in its window still, as charges to refund;
        nothing is served from them any longer."""
        with self._lock:
            held, self._held = self._held, {}
        now_s = self._clock_s()
        return [
            charge
            for (_, digests), lease in held.items()
            if now_s < lease.taken.ends_s
            for charge in _unused(lease, digests)
        ]


def _unused(lease: _Lease, digests: tuple[str, ...]) -> Iterator[Charge]:
    """Of each limit one charge, as large as all that is not used together."""
    left = 0
    # A pop is a use: of one that another thread serves at this moment, one of the two has it.
    while lease.uses:
        try:
            lease.uses.pop()
        except IndexError:
            break
        left += 1
    if not left:
        return
    packed, taken = lease.packed, lease.taken
    for rule, place, start in zip(packed.rules, packed.places, taken.starts, strict=True):
        rate = replace(rule.rate, cost=left * rule.rate.cost)
        state = State(start, 0, 0, ())
        yield Charge(replace(rule, rate=rate, lease=0), digests[place], state, taken.reply[1])
