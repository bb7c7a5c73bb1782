"""What this process counts of the limiter's work, until it is in Redis.

A request only appends: what it means is worked out by the engine's poller, several times a second
(``gather``), and sent once a second (``flush``). One append of all that is said of a request is one
step of the interpreter, so that no lock is needed, threads lose nothing of each other's, and what
belongs together stays together. What is appended are numbers and sets of limits that are there
anyway: records of their own would be looked at by every garbage collection.

What can be lost, and never counted twice:

- a process that is killed takes along what it has not sent: a second's;
- beyond ``MOST_WAITING`` checks between two looks of the poller, the oldest;
- where it is not known for ``DOUBT_S`` whether Redis has taken a batch, that batch;
- what Redis loses, as when it restarts empty or a replica takes over.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..policy.decision import Decision
from ..policy.rules import Mode
from .connections import Connections
from .forks import BeginsAnew
from .packing import PackedLimits
from .usage import CHECK_BOUNDS_US, CHECKS, REMEMBERED_S, UsageStore, limit_fields

FLUSH_S = 0.8
"""Looked at every quarter of a second, so that it is once a second and hardly ever later."""
MOST_WAITING = 1_000_000
"""Of requests that all limits allowed; of denied ones, of which more is said, some fewer."""
DOUBT_S = REMEMBERED_S / 2
"""Until then Redis certainly knows which batch of this process came last."""

_ALLOWED, _DENIED, _WOULD_DENY, _DEGRADED, _SUM_US = range(5)
"""Of a limit's fields, in the order of ``LIMIT_FIELDS``. A verdict is the number 4 * id + this."""
_WITHOUT_REDIS, _REFUSED, _FIRST_VERDICT = -1, -2, -3
"""What is said of a request: decided without Redis, denied; verdicts go down from the third."""


class _Count:
    """A number that threads raise by ``up`` without a lock: a step of the interpreter."""

    __slots__ = ("_looks", "_numbers", "up")

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self.up: Callable[[], int] = self._numbers.__next__
        self._looks = 0

    def now(self) -> int:
        """By one thread at a time: each look takes a number too."""
        self._looks += 1
        return self.up() - self._looks + 1


class _Batch(NamedTuple):
    number: int
    counted: Counter[str]
    made_s: float


class Tally(BeginsAnew):
    """One per process; a forked child begins at nothing.

    ``began`` and ``ended`` for each request, ``checked`` for each decision, by any thread;
    ``connections`` names the pools whose waits are counted.
    """

    def __init__(
        self,
        connections: Callable[[], Iterable[Connections]] = tuple,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = connections
        self._clock_s = clock_s
        super().__init__()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._process = os.urandom(8).hex()
        self._began, self._ended, self._failed = _Count(), _Count(), _Count()
        # Called at each request: bound once.
        self.began = self._began.up
        self._refused = _Count()
        # Of each request what is said of it, below 0 or its limits, and then how long it took, ns.
        self._said: deque[PackedLimits | int] = deque(maxlen=2 * MOST_WAITING)
        self._told = {"requests": 0, "errors": 0, "refused": 0}
        self._waits: dict[Connections, int] = {}
        self._rest_ns = 0
        self._counted: Counter[str] = Counter()
        self._batches = itertools.count(1)
        self._unsure: _Batch | None = None
        self._flushed_s = float("-inf")

    @property
    def in_flight(self) -> int:
        """Requests inside the middleware now."""
        with self._lock:
            ended = self._ended.now()
            return max(0, self._began.now() - ended)

    def ended(self, failed: bool) -> None:
        """A request was answered, or given up. ``failed``: with a 5xx that no policy asked for."""
        if failed:
            self._failed.up()
        self._ended.up()

    def refused(self) -> None:
        """A request was refused, since no limits could be had."""
        self._refused.up()

    def checked(self, limits: PackedLimits | None, decision: Decision, took_ns: int) -> None:
        """A request was decided, by these limits or by an override that blocks it."""
        if limits is not None and decision.all_allowed:
            self._said.extend((limits, took_ns))
            return
        said, degraded = [], decision.unavailable or bool(decision.passed)
        for verdict in decision.verdicts:
            number = _FIRST_VERDICT - 4 * verdict.rule.id
            if verdict.degraded:
                degraded = True
                said.append(number - _DEGRADED)
            if verdict.allowed:
                said.append(number - _ALLOWED)
            else:
                enforced = verdict.rule.mode is Mode.ENFORCE
                said.append(number - (_DENIED if enforced else _WOULD_DENY))
        for rule in decision.passed:
            number = _FIRST_VERDICT - 4 * rule.id
            said += (number - _ALLOWED, number - _DEGRADED)
        if degraded:
            said.append(_WITHOUT_REDIS)
        if not decision.allowed:
            said.append(_REFUSED)
        said.append(took_ns)
        self._said.extend(said)

    def gather(self) -> None:
        """Add up what was appended. Bounded from then on by the number of limits."""
        with self._lock:
            counted = self._counted
            self._add_said()
            now = {
                "requests": self._ended.now(),
                "errors": self._failed.now(),
                "refused": self._refused.now(),
            }
            new = {name: number - self._told[name] for name, number in now.items()}
            self._told = now
            counted["requests"] += new["requests"]
            counted["errors"] += new["errors"]
            counted["denied"] += new["refused"]
            counted["degraded"] += new["refused"]
            waits = {each: each.waits for each in self._connections()}
            for each, number in waits.items():
                counted["pool_waits"] += number - self._waits.get(each, 0)
            self._waits = waits

    def _add_said(self) -> None:
        counted = self._counted
        took: list[int] = []
        # The times of the requests of which each thing was said.
        times_ns: defaultdict[PackedLimits | int, list[int]] = defaultdict(list)
        of_request: list[PackedLimits | int] = []
        limits: PackedLimits | None = None
        for what in _taken(self._said):
            if not isinstance(what, int):
                limits = what
            elif what < 0:
                of_request.append(what)
            else:
                # Where the oldest were lost, what is left of a request may be its time alone.
                took.append(what)
                if limits is not None:
                    times_ns[limits].append(what)
                    limits = None
                if of_request:
                    for one in of_request:
                        times_ns[one].append(what)
                    of_request.clear()
        denied = len(times_ns.pop(_REFUSED, ()))
        counted["allowed"] += len(took) - denied
        counted["denied"] += denied
        counted["degraded"] += len(times_ns.pop(_WITHOUT_REDIS, ()))
        for what, spent in times_ns.items():
            times, sum_us = len(spent), round(sum(spent) / 1000)
            if isinstance(what, PackedLimits):
                for rule in what.rules:
                    fields = limit_fields(rule.id)
                    counted[fields[_ALLOWED]] += times
                    counted[fields[_SUM_US]] += sum_us
            else:
                number, verdict = divmod(_FIRST_VERDICT - what, 4)
                fields = limit_fields(number)
                counted[fields[verdict]] += times
                if verdict != _DEGRADED:
                    counted[fields[_SUM_US]] += sum_us
        self._add_times(sorted(took))

    def _add_times(self, sorted_ns: list[int]) -> None:
        """Sorted and looked up by bound: a fifth of the time that looking up each would take."""
        counted = self._counted
        us, self._rest_ns = divmod(self._rest_ns + sum(sorted_ns), 1000)
        counted["checks_sum_us"] += us
        before = 0
        for name, bound in zip(CHECKS, (*CHECK_BOUNDS_US, float("inf")), strict=True):
            upto = bisect_right(sorted_ns, bound * 1000)
            counted[name] += upto - before
            before = upto

    def flush(self, store: UsageStore, *, now: bool = False) -> bool:
        """``gather``, and send where a second has gone by, or ``now``: whether it was sent.

        Raises Unavailable: what was not taken for certain is sent again the next time, as the
        same batch, which Redis counts once.
        """
        with self._lock:
            self.gather()
            now_s = self._clock_s()
            if not now and now_s - self._flushed_s < FLUSH_S:
                return False
            self._flushed_s = now_s
            unsure = self._unsure
            if unsure is not None:
                if now_s - unsure.made_s < DOUBT_S:
                    store.add(self._process, unsure.number, unsure.counted)
                self._unsure = None
            counted = +self._counted
            if counted:
                self._counted = Counter()
                self._unsure = _Batch(next(self._batches), counted, now_s)
                store.add(self._process, self._unsure.number, counted)
                self._unsure = None
            return bool(counted)


def _taken(waiting: deque[PackedLimits | int]) -> list[PackedLimits | int]:
    """What is there by now; what is appended meanwhile stays."""
    take = waiting.popleft
    return [take() for _ in range(len(waiting))]
