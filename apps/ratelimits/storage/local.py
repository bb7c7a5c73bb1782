"""Limits in this process alone, while Redis does not answer."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from ..policy import algorithms
from ..policy.decision import Charge, Verdict
from ..policy.rules import MAX_WINDOW_US, Algorithm, Rate, Rule
from .forks import BeginsAnew

MAX_IDENTITIES = 10_000


@lru_cache(maxsize=1024)
def share(rate: Rate, processes: int) -> Rate:
    """One process's part of a rate: at least the cost of one request, else nobody passes."""
    burst = max(rate.cost, rate.burst // processes)
    if rate.algorithm is not Algorithm.TOKEN_BUCKET:
        return replace(rate, quota=max(rate.cost, rate.quota // processes), burst=burst)
    # The same quota in a longer window is the same part, and its fraction is never finer than
    # the one that validation accepted.
    if rate.window_us * processes <= MAX_WINDOW_US:
        return replace(rate, window_us=rate.window_us * processes, burst=burst)
    return replace(rate, quota=max(1, rate.quota // processes), burst=rate.cost)


def reshared(state: algorithms.State, old: Rate, new: Rate, now_us: int) -> algorithms.State:
    """A state under another share of the same rate: as many units are taken, rounded up.

    A token bucket keeps them as the time that they take to refill, which is another by now; the
    other algorithms keep the units themselves.
    """
    if old.algorithm is not Algorithm.TOKEN_BUCKET or old == new or state.a < now_us:
        return state
    per_unit, parts = old.fraction
    new_per_unit, new_parts = new.fraction
    debt = (state.a - now_us) * parts + min(state.b, parts)
    whole, part = divmod(-(-debt * new_per_unit // per_unit), new_parts)
    return replace(state, a=now_us + whole, b=part)


class _Kept(NamedTuple):
    """A state, how many processes share its rate, and since when so many do, us."""

    state: algorithms.State
    processes: int
    since_us: int = 0


class LocalLimiter(BeginsAnew):
    """The reference arithmetic over a bounded dict of states, oldest forgotten first.

    ``processes`` may change at any time: what was counted stays counted, of a larger or a smaller
    share.
    """

    def __init__(
        self, processes: int, clock_us: Callable[[], int] = lambda: time.time_ns() // 1000
    ) -> None:
        self.processes = processes
        self._clock_us = clock_us
        self._seen_us = 0
        super().__init__()

    def _begin(self) -> None:
        """Also in a forked child, which has a share of its own: a thread of its parent's may have
        held the lock."""
        self._lock = threading.Lock()
        self._states: OrderedDict[tuple[str, int, int], _Kept] = OrderedDict()
        self._held: OrderedDict[str, list[tuple[Rule, tuple[str, int, int]]]] = OrderedDict()

    def decide(
        self, targets: list[tuple[Rule, str]], member: str
    ) -> tuple[list[Verdict], tuple[Charge, ...]]:
        """Verdicts on (rule, digest), all charged or none, and what may be given back;
        concurrency slots end by lease."""
        with self._lock:
            # Never backwards, as in the scripts: a step back would begin a window anew.
            now_us = self._seen_us = max(self._seen_us, self._clock_us())
            outcomes = []
            processes = self.processes
            for rule, digest in targets:
                rate = share(rule.rate, processes)
                key = (digest, rule.id, rule.epoch)
                kept = self._states.get(key) or _Kept(algorithms.EMPTY, processes)
                if kept.processes != processes:
                    old = share(rule.rate, kept.processes)
                    state = reshared(kept.state, old, rate, now_us)
                    kept = self._states[key] = _Kept(state, processes, now_us)
                outcome = algorithms.decide(rate, kept.state, now_us, None, member)
                outcomes.append((rule, key, rate, kept.since_us, outcome))
            allowed = all(outcome[0] for *_, outcome in outcomes)
            verdicts = []
            charges = []
            for rule, key, rate, since_us, (ok, idle, counted) in outcomes:
                state = counted if allowed or not ok else idle
                if state is not idle:
                    self._states[key] = _Kept(state, processes, since_us)
                    self._states.move_to_end(key)
                if allowed and rate.algorithm is Algorithm.CONCURRENCY:
                    self._held.setdefault(member, []).append((rule, key))
                if allowed and rate.algorithm is not Algorithm.CONCURRENCY:
                    mine = replace(rule, rate=rate)
                    charges.append(Charge(mine, key[0], state, now_us, degraded=True))
                said = int(ok) or state.blocked_until_us
                standing = algorithms.standing(rate, said, state.a, state.b, state.c, now_us)
                verdicts.append(Verdict(rule, ok, standing, degraded=True))
            while len(self._states) > MAX_IDENTITIES:
                self._states.popitem(last=False)
            while len(self._held) > MAX_IDENTITIES:
                self._held.popitem(last=False)
        return verdicts, tuple(charges)

    def refund(self, charge: Charge) -> None:
        """Give back what was charged here. Of a token bucket that is shared by more or fewer
        since, nothing: how long the charge takes to refill is another, so it just refills."""
        rule = charge.rule
        key = (charge.digest, rule.id, rule.epoch)
        with self._lock:
            now_us = self._seen_us = max(self._seen_us, self._clock_us())
            kept = self._states.get(key)
            if kept is None:
                return
            if rule.rate.algorithm is Algorithm.TOKEN_BUCKET and charge.at_us < kept.since_us:
                return
            state = algorithms.refund(
                rule.rate, kept.state, charge.state, rule.rate.cost, now_us=now_us
            )
            self._states[key] = kept._replace(state=state)

    def release(self, member: str) -> None:
        """Free the slots that ``member`` holds here."""
        with self._lock:
            for rule, key in self._held.pop(member, ()):
                kept = self._states.get(key)
                if kept is not None:
                    state = algorithms.refund(rule.rate, kept.state, kept.state, 1, member)
                    self._states[key] = kept._replace(state=state)
