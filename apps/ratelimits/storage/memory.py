"""What this process remembers, so that it need not ask: who is denied until when."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from ..policy import algorithms
from ..policy.algorithms import State
from ..policy.decision import Decision
from ..policy.rules import Algorithm, Rate, Rule
from .packing import PackedLimits

Whom = tuple[PackedLimits, tuple[str, ...]]
"""A set of limits and the digests of those it counts. The cost is part of the limits."""

MOST_DENIALS = 10_000


class Denials:
    """Answers for those who are denied whatever they do, until their time has come.

    Only for limits of which a denial holds until then (``PackedLimits.remembered``): nothing
    but a reset or another ruleset ends it sooner, and both are told within a second. Bounded:
    the oldest denial is forgotten first. Safe in threads: each step is one operation on a dict.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self.known: dict[Whom, tuple[float, float, Sequence[int]]] = {}

    def __len__(self) -> int:
        return len(self.known)

    def recall(self, whom: Whom) -> Decision | None:
        """The denial, with what is left of its time; None where nothing is known."""
        known = self.known.get(whom)
        if known is None:
            return None
        asked_s, until_s, reply = known
        now_s = self._clock_s()
        if now_s >= until_s:
            self.known.pop(whom, None)
            return None
        later_us = int((now_s - asked_s) * 1_000_000)
        return Decision.from_reply(False, _Later(whom[0]), (reply, later_us))

    def keep(self, whom: Whom, reply: Sequence[int], retry_after_us: int, asked_s: float) -> None:
        """``asked_s``: when the request for the reply was sent, so that nobody is denied longer
        than the reply says."""
        for rule, ok in zip(whom[0].rules, reply[2::4], strict=True):
            if rule.rate.block_us:
                # When its block is over, the next denial begins another: Redis is to hear of it.
                retry_after_us = min(retry_after_us, ok - reply[1])
        if retry_after_us <= 0:
            return
        # Put last: who is forgotten first has been here for longest.
        self.known.pop(whom, None)
        while len(self.known) >= MOST_DENIALS:
            try:
                self.known.pop(next(iter(self.known)), None)
            except (StopIteration, RuntimeError):  # Another thread was at it.
                break
        self.known[whom] = (asked_s, asked_s + retry_after_us / 1_000_000, reply)

    def forget(self, digests: Collection[str] | None) -> None:
        """Those of identities that were reset, or all."""
        if digests is None:
            self.known.clear()
            return
        for whom in list(self.known):
            if not set(digests).isdisjoint(whom[1]):
                self.known.pop(whom, None)


class _Later:
    """Limits that read a denying reply as it would be some time later.

    Of several limits some may have come free meanwhile, though not the one that denies longest.
    """

    __slots__ = ("_limits",)

    def __init__(self, limits: PackedLimits) -> None:
        self._limits = limits

    @property
    def rules(self) -> Sequence[Rule]:
        return self._limits.rules

    def read(self, reply: tuple[Sequence[int], int]) -> Sequence[int]:
        (allowed, then_us, *numbers), later_us = reply
        now_us = then_us + later_us
        later = [allowed, now_us]
        for at, rule in enumerate(self.rules):
            later += _later(rule.rate, now_us, *numbers[4 * at : 4 * at + 4])
        return later


def _later(rate: Rate, now_us: int, ok: int, a: int, b: int, c: int) -> tuple[int, int, int, int]:
    blocked_until_us = ok if ok > now_us else 0
    if rate.algorithm is Algorithm.SLIDING_LOG:
        # The log is in Redis: of it is known when this cost fits.
        free = ok == 1 or b <= now_us
        return blocked_until_us or int(free), min(a, rate.quota - rate.cost) if free else a, b, c
    free, state, _ = algorithms.decide(rate, State(a, b, c), now_us)
    return blocked_until_us or int(free), state.a, state.b, state.c
