"""What this process remembers, so that it need not ask: who is denied until when."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from ..policy.decision import Decision
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
        self._known: dict[Whom, tuple[float, float, Sequence[int]]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, whom: Whom) -> Decision | None:
        """The denial, with what is left of its time; None where nothing is known."""
        known = self._known.get(whom)
        if known is None:
            return None
        asked_s, until_s, reply = known
        now_s = self._clock_s()
        if now_s >= until_s:
            self._known.pop(whom, None)
            return None
        return Decision.from_reply(whom[0], reply, later_us=int((now_s - asked_s) * 1_000_000))

    def keep(self, whom: Whom, reply: Sequence[int], retry_after_us: int, asked_s: float) -> None:
        """``asked_s``: when the request for the reply was sent, so that nobody is denied longer
        than the reply says."""
        while len(self._known) >= MOST_DENIALS:
            try:
                self._known.pop(next(iter(self._known)), None)
            except (StopIteration, RuntimeError):  # Another thread was at it.
                break
        self._known[whom] = (asked_s, asked_s + retry_after_us / 1_000_000, reply)

    def forget(self, digests: Collection[str] | None) -> None:
        """Those of identities that were reset, or all."""
        if digests is None:
            self._known.clear()
            return
        for whom in list(self._known):
            if not set(digests).isdisjoint(whom[1]):
                self._known.pop(whom, None)
