"""What one identity of a limit may have got, seen from outside.

A client knows of a decision only that it fell between sending and answer: ``sent_s`` and
``answered_s``, both of ``time.time()``. So each ledger keeps two counts: what is *certain*, against
admissions beyond the promise, and what is *possible*, against denials that were not due. What it
objects to is wrong whenever the decisions fell; what it lets pass may have been right.

One user's requests follow each other: each is sent after the one before was answered. The
formulas are those of docs/overview/algorithms.md. No I/O, no clock.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

from .promises import Promise

LATE_S = 5.0
"""A request without an answer may still be counted so much later."""
ROUNDING = 1e-6
"""Of requests: times are floats, of a second over 1e9."""


class Ledger(Protocol):
    """Each returns what is wrong, or an empty text."""

    def admitted(self, sent_s: float, answered_s: float, remaining: int | None) -> str: ...

    def denied(self, sent_s: float, answered_s: float) -> str: ...

    def unanswered(self, sent_s: float, given_up_s: float) -> None: ...


def ledger(promise: Promise, skew_s: float) -> Ledger:
    """``skew_s``: how far the clocks of client and server may be apart."""
    match promise.algorithm:
        case "token_bucket":
            return TokenBucket(promise)
        case "sliding_log":
            return SlidingLog(promise)
        case "fixed_window":
            return FixedWindow(promise, skew_s)
        case "sliding_window":
            return SlidingWindow(promise, skew_s)
    raise ValueError(f"{promise.algorithm} cannot be checked from outside")


def too_many(promise: Promise, number: float, allowed: float, span_s: float) -> str:
    return (
        f"{promise.name} admitted {number:,.0f} requests in {span_s:.3f} s, "
        f"where {math.floor(allowed + ROUNDING):,} are promised at most"
    )


def undue(promise: Promise, used: float) -> str:
    return (
        f"{promise.name} denied a request that was due to be admitted: at most {used:,.1f} of "
        f"{promise.burst if promise.algorithm == 'token_bucket' else promise.quota:,.0f} were used"
    )


def fits(most: float, used: float) -> bool:
    """Whether one more would have been promised. What is no whole number is rounded, too."""
    return used + 1 <= most - (0 if used == int(used) else ROUNDING)


def wrong_remaining(promise: Promise, said: int, low: int, high: int) -> str:
    return f"{promise.name} said that {said:,} remain, where it is {low:,} to {high:,}"


class TokenBucket:
    """At most burst + rate * span in any span; the level is that of a bucket which leaks."""

    def __init__(self, promise: Promise) -> None:
        self._promise = promise
        self._rate = promise.quota / promise.window_s
        self._number = 0
        self._zero_s: float | None = None
        self._first_s = 0.0
        self._least = math.inf
        # Arrival times of GCRA, were each decision as late, and as early, as it can have been.
        self._late_s = self._early_s = -math.inf

    def _from_start(self, sent_s: float, answered_s: float) -> tuple[float, float]:
        """Small numbers: the sums of many seconds since 1970 would not be exact enough."""
        if self._zero_s is None:
            self._zero_s = sent_s
        return sent_s - self._zero_s, answered_s - self._zero_s

    def admitted(self, sent_s: float, answered_s: float, remaining: int | None) -> str:
        sent_s, answered_s = self._from_start(sent_s, answered_s)
        rate, burst = self._rate, self._promise.burst
        if self._number - rate * sent_s < self._least:
            self._least, self._first_s = self._number - rate * sent_s, sent_s
            first = self._number
        else:
            first = round(self._least + rate * self._first_s)
        self._number += 1
        self._late_s = max(self._late_s, answered_s) + 1 / rate
        self._early_s = max(self._early_s, sent_s) + 1 / rate
        if self._number - rate * answered_s - burst > self._least + ROUNDING:
            span_s = answered_s - self._first_s
            return too_many(self._promise, self._number - first, burst + rate * span_s, span_s)
        if remaining is None or not self._promise.exact:
            return ""
        # After an unanswered request the early one may be behind: then more is possible.
        low = math.floor(burst - (self._late_s - sent_s) * rate - ROUNDING)
        high = math.floor(burst - (self._early_s - answered_s) * rate + ROUNDING)
        if not max(0, low) <= remaining <= high:
            return wrong_remaining(self._promise, remaining, max(0, low), high)
        return ""

    def denied(self, sent_s: float, answered_s: float) -> str:
        sent_s, answered_s = self._from_start(sent_s, answered_s)
        used = max(0.0, (self._late_s - sent_s) * self._rate)
        return undue(self._promise, used) if fits(self._promise.burst, used) else ""

    def unanswered(self, sent_s: float, given_up_s: float) -> None:
        _, given_up_s = self._from_start(sent_s, given_up_s)
        self._late_s = max(self._late_s, given_up_s + LATE_S) + 1 / self._rate


class FixedWindow:
    """The quota in each window of the server's clock."""

    def __init__(self, promise: Promise, skew_s: float) -> None:
        self._promise, self._skew_s = promise, skew_s
        self.certain: dict[int, int] = {}
        self.possible: dict[int, int] = {}

    def windows(self, from_s: float, to_s: float) -> range:
        """Numbers of those that a moment between the two may lie in."""
        length_s = self._promise.window_s
        first = math.floor((from_s - self._skew_s) / length_s)
        return range(first, math.floor((to_s + self._skew_s) / length_s) + 1)

    def admitted(self, sent_s: float, answered_s: float, remaining: int | None) -> str:
        windows = self.windows(sent_s, answered_s)
        self._may_count(windows)
        if len(windows) > 1:
            return ""
        number = self.certain.get(windows[0], 0) + 1
        self.certain[windows[0]] = number
        if number > self._promise.quota + ROUNDING:
            length_s = self._promise.window_s
            return too_many(self._promise, number, self._promise.quota, length_s)
        return self._remaining(windows[0], remaining)

    def _remaining(self, window: int, remaining: int | None) -> str:
        if remaining is None or not self._promise.exact:
            return ""
        low = math.floor(self._promise.quota - self.possible[window] + ROUNDING)
        high = math.floor(self._promise.quota - self.certain[window] + ROUNDING)
        if not low <= remaining <= high:
            return wrong_remaining(self._promise, remaining, low, high)
        return ""

    def _may_count(self, windows: range) -> None:
        for window in windows:
            self.possible[window] = self.possible.get(window, 0) + 1
        for counts in (self.certain, self.possible):
            for window in [old for old in counts if old < windows[0] - 1]:
                del counts[window]

    def used(self, window: int, at_s: float) -> float:
        return self.possible.get(window, 0)

    def denied(self, sent_s: float, answered_s: float) -> str:
        windows = self.windows(sent_s, answered_s)
        used = max(self.used(window, sent_s - self._skew_s) for window in windows)
        return undue(self._promise, used) if fits(self._promise.quota, used) else ""

    def unanswered(self, sent_s: float, given_up_s: float) -> None:
        self._may_count(self.windows(sent_s, given_up_s + LATE_S))


class SlidingWindow(FixedWindow):
    """What the last window used counts by the part of it that still lies within the window."""

    def used(self, window: int, at_s: float) -> float:
        length_s = self._promise.window_s
        gone = min(1.0, max(0.0, at_s / length_s - window))
        return self.possible.get(window, 0) + self.possible.get(window - 1, 0) * (1 - gone)

    def _remaining(self, window: int, remaining: int | None) -> str:
        return ""


class SlidingLog:
    """The quota in any span of a window."""

    def __init__(self, promise: Promise) -> None:
        self._promise = promise
        self._sent_s: deque[float] = deque()
        self._answered_s: deque[float] = deque()

    def admitted(self, sent_s: float, answered_s: float, remaining: int | None) -> str:
        window_s, quota = self._promise.window_s, self._promise.quota
        self._sent_s.append(sent_s)
        self._answered_s.append(answered_s)
        while self._sent_s and self._sent_s[0] <= answered_s - window_s:
            self._sent_s.popleft()
        self._forget(sent_s)
        certain = len(self._sent_s)
        if certain > quota + ROUNDING:
            return too_many(self._promise, certain, quota, answered_s - self._sent_s[0])
        if remaining is None or not self._promise.exact:
            return ""
        low = math.floor(max(0.0, quota - len(self._answered_s)) + ROUNDING)
        high = math.floor(quota - certain + ROUNDING)
        if not low <= remaining <= high:
            return wrong_remaining(self._promise, remaining, low, high)
        return ""

    def denied(self, sent_s: float, answered_s: float) -> str:
        self._forget(sent_s)
        used = len(self._answered_s)
        return undue(self._promise, used) if fits(self._promise.quota, used) else ""

    def unanswered(self, sent_s: float, given_up_s: float) -> None:
        self._answered_s.append(given_up_s + LATE_S)

    def _forget(self, sent_s: float) -> None:
        while self._answered_s and self._answered_s[0] <= sent_s - self._promise.window_s:
            self._answered_s.popleft()
