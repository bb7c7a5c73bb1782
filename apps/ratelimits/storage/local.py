"""Limits in this process alone, while Redis does not answer."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from ..policy import algorithms
from ..policy.decision import Charge, Verdict
from ..policy.rules import MAX_WINDOW_US, Algorithm, Rate, Rule

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


class LocalLimiter:
    """The reference arithmetic over a bounded dict of states, oldest forgotten first."""

    def __init__(
        self, processes: int, clock_us: Callable[[], int] = lambda: time.time_ns() // 1000
    ) -> None:
        self._processes = processes
        self._clock_us = clock_us
        self._seen_us = 0
        self._lock = threading.Lock()
        self._states: OrderedDict[tuple[str, int, int], algorithms.State] = OrderedDict()
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
            for rule, digest in targets:
                rate = share(rule.rate, self._processes)
                key = (digest, rule.id, rule.epoch)
                state = self._states.get(key, algorithms.EMPTY)
                outcome = algorithms.decide(rate, state, now_us, None, member)
                outcomes.append((rule, key, rate, outcome))
            allowed = all(outcome[0] for *_, outcome in outcomes)
            verdicts = []
            charges = []
            for rule, key, rate, (ok, idle, counted) in outcomes:
                state = counted if allowed or not ok else idle
                if state is not idle:
                    self._states[key] = state
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
        """Give back what was charged here."""
        rule = charge.rule
        key = (charge.digest, rule.id, rule.epoch)
        with self._lock:
            now_us = self._seen_us = max(self._seen_us, self._clock_us())
            state = self._states.get(key)
            if state is not None:
                self._states[key] = algorithms.refund(
                    rule.rate, state, charge.state, rule.rate.cost, now_us=now_us
                )

    def release(self, member: str) -> None:
        """Free the slots that ``member`` holds here."""
        with self._lock:
            for rule, key in self._held.pop(member, ()):
                state = self._states.get(key)
                if state is not None:
                    self._states[key] = algorithms.refund(rule.rate, state, state, 1, member)
