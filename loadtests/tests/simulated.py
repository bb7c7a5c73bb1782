"""Servers that decide as the algorithms do, each at a moment that the client does not see."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from loadtests.promises import Promise


def promise(algorithm: str, quota: float = 10, window_s: float = 10, burst: float = 0) -> Promise:
    return Promise("limit", algorithm, quota, window_s, burst or quota, ("address",))


class Server:
    """Of one identity. ``generous``: so much more than promised; negative: less."""

    def __init__(self, promised: Promise, generous: float = 0) -> None:
        self.promised, self.more = promised, generous
        self.taken: list[float] = []
        self.arrival_s = -math.inf

    def asked(self, at_s: float) -> tuple[bool, int]:
        """Whether it is allowed, and what remains."""
        quota, window_s = self.promised.quota + self.more, self.promised.window_s
        match self.promised.algorithm:
            case "token_bucket":
                step_s = window_s / self.promised.quota
                capacity_s = (self.promised.burst + self.more) * step_s
                arrival_s = max(self.arrival_s, at_s) + step_s
                if arrival_s > at_s + capacity_s:
                    return False, 0
                self.arrival_s = arrival_s
                return True, math.floor((at_s + capacity_s - arrival_s) / step_s + 1e-9)
            case "sliding_log":
                used = float(sum(time_s > at_s - window_s for time_s in self.taken))
            case _:
                window = math.floor(at_s / window_s)
                used = float(sum(math.floor(time_s / window_s) == window for time_s in self.taken))
                if self.promised.algorithm == "sliding_window":
                    before = sum(
                        math.floor(time_s / window_s) == window - 1 for time_s in self.taken
                    )
                    used += before * (1 - (at_s / window_s - window))
        if used + 1 > quota:
            return False, 0
        self.taken = [time_s for time_s in self.taken if time_s > at_s - 2 * window_s]
        self.taken.append(at_s)
        return True, math.floor(quota - used - 1)


@dataclass(frozen=True)
class Exchange:
    sent_s: float
    decided_s: float
    answered_s: float


def traffic(seed: int, number: int, per_s: float, start_s: float = 1.7e9) -> list[Exchange]:
    """One user's: each is sent after the one before was answered; bursts among them."""
    chance = random.Random(seed)
    now_s, made = start_s + chance.random() * 100, []
    for _ in range(number):
        now_s += chance.expovariate(per_s) if chance.random() < 0.7 else 0.0
        took_s = chance.choice((0.001, 0.01, 0.2)) * chance.random()
        made.append(Exchange(now_s, now_s + took_s * chance.random(), now_s + took_s))
        now_s += took_s
    return made
