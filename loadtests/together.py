"""What many users share (everyone together, one address): counted in bins of time, so that the
counts of all workers add up, and judged at the end.

Of admitted requests a bin knows how many were *sent* and how many *answered* in it. Between two
moments a and b the limiter certainly admitted answered(b) - sent(a), those that were both sent
and answered between them; it possibly admitted sent(b) - answered(a), those that were under way
at all. The first may not exceed a promise, and a denial is due where the second uses it up. What
was never answered is possible and not certain. No I/O, no clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from .ledgers import LATE_S, ROUNDING, fits, too_many, undue
from .promises import Promise

BIN_S = 0.1
MOST_SAID = 3
"""Of one promise: the first tells what the others would."""
Counts = dict[int, int]
"""By number of the bin."""


class Together:
    """The counts of one identity of one limit. ``pending`` is what the master has not got yet."""

    KINDS = ("sent", "answered", "possibly_sent", "possibly_answered")

    def __init__(self) -> None:
        self.counts: dict[str, Counts] = {kind: {} for kind in self.KINDS}
        self.denials: dict[tuple[int, int], int] = {}
        """By the bins of sending and answer."""

    def admitted(self, sent_s: float, answered_s: float) -> None:
        self._count("sent", sent_s)
        self._count("answered", answered_s)

    def unanswered(self, sent_s: float, given_up_s: float) -> None:
        self._count("possibly_sent", sent_s)
        self._count("possibly_answered", given_up_s + LATE_S)

    def denied(self, sent_s: float, answered_s: float) -> None:
        when = _bin(sent_s), _bin(answered_s)
        self.denials[when] = self.denials.get(when, 0) + 1

    def _count(self, kind: str, at_s: float) -> None:
        counts, number = self.counts[kind], _bin(at_s)
        counts[number] = counts.get(number, 0) + 1

    def message(self) -> dict[str, Any]:
        """For the master: lists alone, as msgpack has them."""
        return {
            "counts": {kind: list(counts.items()) for kind, counts in self.counts.items()},
            "denials": [[*when, number] for when, number in self.denials.items()],
        }

    def add(self, message: Mapping[str, Any]) -> None:
        for kind, pairs in message["counts"].items():
            counts = self.counts[kind]
            for number, more in pairs:
                counts[number] = counts.get(number, 0) + more
        for sent, answered, more in message["denials"]:
            when = (sent, answered)
            self.denials[when] = self.denials.get(when, 0) + more

    @property
    def admissions(self) -> int:
        return sum(self.counts["answered"].values())


def judge(promise: Promise, found: Together, skew_s: float) -> list[str]:
    """What is wrong, the first few of it."""
    series = _Series(promise, found, skew_s)
    wrong = list(_over(promise, series))[:MOST_SAID]
    if promise.exact:
        wrong += list(_undue(promise, found, series))[:MOST_SAID]
    return wrong


class _Series:
    """Running sums over all bins: ``sent[i]`` is of all before bin i, so of all before its time."""

    def __init__(self, promise: Promise, found: Together, skew_s: float) -> None:
        numbers = [number for counts in found.counts.values() for number in counts]
        numbers += [number for when in found.denials for number in when]
        margin = math.ceil(promise.window_s / BIN_S) + 2
        self.first = min(numbers, default=0) - margin
        self.length = max(numbers, default=0) + margin - self.first
        self.skew = math.ceil(skew_s / BIN_S) if skew_s else 0
        self.sent = self._sums(found.counts["sent"])
        self.answered = self._sums(found.counts["answered"])
        maybe_sent = self._sums(found.counts["possibly_sent"])
        maybe_answered = self._sums(found.counts["possibly_answered"])
        self.maybe_sent = [a + b for a, b in zip(self.sent, maybe_sent, strict=True)]
        self.maybe_answered = [a + b for a, b in zip(self.answered, maybe_answered, strict=True)]

    def _sums(self, counts: Counts) -> list[int]:
        each = (counts.get(self.first + place, 0) for place in range(self.length))
        return list(accumulate(each, initial=0))

    def place(self, at_s: float, *, up: bool = False) -> int:
        """Of a moment: the edge at or before it, or at or after it, within the series."""
        edge = math.ceil(at_s / BIN_S - 1e-9) if up else math.floor(at_s / BIN_S + 1e-9)
        return min(max(edge - self.first, 0), self.length)

    def certain(self, a: int, b: int) -> int:
        return self.answered[b] - self.sent[a]

    def possible(self, a: int, b: int) -> int:
        return self.maybe_sent[b] - self.maybe_answered[a]


def _over(promise: Promise, series: _Series) -> Iterator[str]:
    match promise.algorithm:
        case "token_bucket":
            # The most of certain(a, b) - rate * (b - a), for each b, over all a before it.
            per_bin = promise.quota / promise.window_s * BIN_S
            best, start = -math.inf, 0
            for b in range(series.length + 1):
                if per_bin * b - series.sent[b] > best:
                    best, start = per_bin * b - series.sent[b], b
                allowed = promise.burst + per_bin * (b - start)
                number = series.certain(start, b)
                if number > allowed + ROUNDING:
                    yield too_many(promise, number, allowed, (b - start) * BIN_S)
        case "sliding_log":
            # One bin less than the window: its two ends are not both in it.
            span = max(1, math.floor(promise.window_s / BIN_S + 1e-9))
            for b in range(span, series.length + 1):
                number = series.certain(b - span, b)
                if number > promise.quota + ROUNDING:
                    yield too_many(promise, number, promise.quota, span * BIN_S)
        case _:
            for start_s in _windows(promise, series):
                a = series.place(start_s, up=True) + series.skew
                b = series.place(start_s + promise.window_s) - series.skew
                number = series.certain(min(a, series.length), max(b, 0)) if b > a else 0
                if number > promise.quota + ROUNDING:
                    yield too_many(promise, number, promise.quota, promise.window_s)


def _windows(promise: Promise, series: _Series) -> Iterator[float]:
    first_s, last_s = series.first * BIN_S, (series.first + series.length) * BIN_S
    for number in range(
        math.floor(first_s / promise.window_s), math.floor(last_s / promise.window_s) + 1
    ):
        yield number * promise.window_s


def _undue(promise: Promise, found: Together, series: _Series) -> Iterator[str]:
    used = _used(promise, series)
    most = promise.burst if promise.algorithm == "token_bucket" else promise.quota
    for sent, answered in sorted(found.denials):
        low = max(0, sent - series.first - series.skew)
        high = min(series.length, answered + 1 - series.first + series.skew)
        at_most = max(used[low : high + 1])
        if fits(most, at_most):
            yield undue(promise, at_most)


def _used(promise: Promise, series: _Series) -> list[float]:
    """At each edge, how much of the promise can have been used at most in the bin before it."""
    places = range(series.length + 1)
    match promise.algorithm:
        case "token_bucket":
            per_bin = promise.quota / promise.window_s * BIN_S
            # Since a moment in the bin that begins at a, until one in the bin that ends at b.
            since = (per_bin * (a + 1) - series.maybe_answered[a] for a in places)
            starts = accumulate(since, max)
            return [
                max(0.0, series.maybe_sent[b] - per_bin * (b - 1) + best)
                for b, best in zip(places, starts, strict=True)
            ]
        case "sliding_log":
            span = math.ceil(promise.window_s / BIN_S) + 1
            return [float(series.possible(max(0, b - span), b)) for b in places]
    return [_used_of_windows(promise, series, b) for b in places]


def _used_of_windows(promise: Promise, series: _Series, b: int) -> float:
    length_s = promise.window_s
    at_s = (series.first + b) * BIN_S
    # At an edge of two windows, and near it, either of them may be meant.
    near_s = BIN_S * (series.skew + 1)
    numbers: Iterable[int] = {
        math.floor((at_s + off_s) / length_s) for off_s in (-near_s, 0.0, near_s)
    }
    most = 0.0
    for number in numbers:
        start = max(0, series.place(number * length_s) - series.skew)
        used = float(series.possible(min(start, b), b))
        if promise.algorithm == "sliding_window":
            before = max(0, series.place((number - 1) * length_s) - series.skew)
            gone = min(1.0, max(0.0, (at_s - near_s) / length_s - number))
            end = min(series.length, series.place(number * length_s, up=True) + series.skew)
            used += series.possible(before, max(before, min(end, b))) * (1 - gone)
        most = max(most, used)
    return most


def _bin(at_s: float) -> int:
    return math.floor(at_s / BIN_S)


def merged(messages: Iterable[Mapping[str, Any]]) -> Together:
    whole = Together()
    for message in messages:
        whole.add(message)
    return whole
