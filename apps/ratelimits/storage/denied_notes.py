"""What this process notes of the requests that it denies, until it is in Redis.

A denied request only appends to a bounded deque; one that is allowed does nothing. The engine's
poller adds up what was appended several times a second, and sends it once a second, in one
pipeline. The path and the address are digested then, so that they are in memory for a second
and never in Redis.

Bounded, under an attack too: ``MOST_WAITING`` denials between two looks (the oldest go),
``MOST_IDENTITIES`` of ``MOST_LIMITS`` limits and hours, ``MOST_SENT`` denials a second. What a
reply that never came leaves in doubt is sent again: then a denial may be counted twice.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..policy.identity import Digests
from .denied import HOUR_S, MOST_PER_HOUR, Batch, Denial, DeniedStore, Names
from .forks import BeginsAnew
from .packing import PackedLimits

FLUSH_S = 0.8
"""Looked at every quarter of a second, so that it is once a second and hardly ever later."""
MOST_WAITING = 20_000
MOST_IDENTITIES = 2 * MOST_PER_HOUR
MOST_LIMITS = 200
MOST_CALLS = 40
"""Limits and hours of one pipeline: a script for each; those with most denials first."""
MOST_SENT = 20
MOST_SENT_OF_A_LIMIT = 5
"""Of the last denials, so that a limit under attack leaves room for others."""
MOST_COUNTED = 20
MOST_PATH_CHARS = 200
MOST_NAME_CHARS = 80

KeptPath = Callable[[str], tuple[str, str, bool]]
"""A path -> as it may be kept, the name of its view, and whether that is all of it."""


class Noted(NamedTuple):
    """A denial as the request left it: what is there anyway, and little is made of it then.

    ``limits`` and ``whom`` are those of the check; of a block (None) ``whom`` has a digest for each
    of ``denied``, the limits that said no. ``why`` as in Denial; ``names`` by limit.
    """

    at_s: float
    limits: PackedLimits | None
    whom: tuple[str, ...]
    denied: tuple[int, ...]
    method: str
    path: str
    address: str
    why: str
    names: tuple[tuple[int, Names], ...] = ()

    @property
    def counted(self) -> tuple[tuple[int, str], ...]:
        """The limits that matched with whom they count; of many, those that denied first."""
        if self.limits is None:
            return tuple(zip(self.denied, self.whom, strict=True))
        pairs = zip(self.limits.rules, self.limits.places, strict=True)
        found = [(rule.id, self.whom[place]) for rule, place in pairs]
        if len(found) > MOST_COUNTED:
            found.sort(key=lambda pair: pair[0] not in self.denied)
        return tuple(found[:MOST_COUNTED])


_Alike = tuple[object, ...]
"""A denial but for its time."""


class _Row:
    """Of one identity: how often, of which so many at most may be another's, and its names."""

    __slots__ = ("names", "other", "times")

    def __init__(self, times: int, other: int, names: Names) -> None:
        self.times, self.other, self.names = times, other, names


class DeniedNotes(BeginsAnew):
    """One per process; a forked child begins at nothing. ``note`` by any thread."""

    def __init__(
        self,
        digests: Digests,
        kept_path: KeptPath,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._digests = digests
        self._kept_path = kept_path
        self._clock_s = clock_s
        super().__init__()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._noted: deque[Noted] = deque(maxlen=MOST_WAITING)
        self._recent: dict[_Alike, tuple[Noted, int]] = {}
        self._most: dict[tuple[int, int], dict[str, _Row]] = {}
        self._flushed_s = float("-inf")

    def note(self, noted: Noted) -> None:
        """A request was denied. Its path is bounded by whoever notes it."""
        self._noted.append(noted)

    def gather(self) -> None:
        """Add up what was appended: first those that are alike, of which there are few."""
        with self._lock:
            take = self._noted.popleft
            alike: dict[_Alike, tuple[Noted, int]] = {}
            for noted in [take() for _ in range(len(self._noted))]:
                same = (int(noted.at_s) // HOUR_S, *noted[1:])
                alike[same] = noted, alike[same][1] + 1 if same in alike else 1
            if not alike:
                return
            times: dict[tuple[int, int], Counter[str]] = {}
            names: dict[tuple[int, str], Names] = {}
            for noted, number in alike.values():
                hour, counted = int(noted.at_s) // HOUR_S, dict(noted.counted)
                for limit in noted.denied:
                    if who := counted.get(limit):
                        times.setdefault((limit, hour), Counter())[who] += number
                for limit, own in noted.names:
                    names[limit, counted.get(limit, "")] = own
            for place, of in times.items():
                self._add(place, of, names)
            self._bound()
            self._keep_recent(alike)

    def _add(
        self, place: tuple[int, int], counted: Counter[str], names: Mapping[tuple[int, str], Names]
    ) -> None:
        """As lua/denied.lua does: who is new to a full summary takes over its least count."""
        rows = self._most.setdefault(place, {})
        full = len(rows) >= MOST_IDENTITIES
        least = min((row.times for row in rows.values()), default=0) if full else 0
        for who, number in counted.items():
            row = rows.get(who)
            if row is None:
                rows[who] = _Row(number + least, least, names.get((place[0], who), ()))
            else:
                row.times += number
                row.names = names.get((place[0], who), row.names)
        if len(rows) > MOST_IDENTITIES:
            self._most[place] = dict(_largest(rows, MOST_IDENTITIES))

    def _bound(self) -> None:
        if len(self._most) > MOST_LIMITS:
            self._most = dict(sorted(self._most.items(), key=_weight)[:MOST_LIMITS])

    def _keep_recent(self, alike: Mapping[_Alike, tuple[Noted, int]]) -> None:
        """The newest of alike ones, and how many they were; of each limit a few."""
        for same, (noted, times) in alike.items():
            self._recent[same] = noted, times + self._recent.pop(same, (noted, 0))[1]
        newest = sorted(self._recent.items(), key=lambda item: item[1][0].at_s)[::-1]
        of: Counter[tuple[int, ...]] = Counter()
        kept: dict[_Alike, tuple[Noted, int]] = {}
        for same, row in newest:
            of[row[0].denied] += 1
            if of[row[0].denied] <= MOST_SENT_OF_A_LIMIT and len(kept) < MOST_SENT:
                kept[same] = row
        self._recent = dict(reversed(kept.items()))

    def flush(self, store: DeniedStore, *, now: bool = False) -> bool:
        """``gather``, and send where a second has gone by, or ``now``: whether there was anything.

        Raises Unavailable: what Redis did not take is sent the next time.
        """
        with self._lock:
            self.gather()
            now_s = self._clock_s()
            if not (self._most or self._recent) or not (now or now_s - self._flushed_s >= FLUSH_S):
                return False
            self._flushed_s = now_s
            chosen = sorted(self._most.items(), key=_weight)[: None if now else MOST_CALLS]
            most = {
                place: {
                    who: (row.times, row.other, row.names)
                    for who, row in _largest(rows, MOST_PER_HOUR)
                }
                for place, rows in chosen
            }
            recent = [self._denial(*row) for row in self._recent.values()]
            sent = store.add(Batch(recent, most))
            for place in sent.most:
                del self._most[place]
            if sent.recent:
                self._recent = {}
            if sent.failed is not None:
                raise sent.failed
            return True

    def _denial(self, noted: Noted, times: int) -> Denial:
        path, view, whole = self._kept_path(noted.path)
        return Denial(
            at_ms=int(noted.at_s * 1000),
            method=noted.method if noted.method.isascii() and noted.method.isalpha() else "?",
            path=path[:MOST_PATH_CHARS],
            view=view[:MOST_PATH_CHARS],
            whole=whole and len(path) <= MOST_PATH_CHARS,
            address=self._digests.of(("address", noted.address)),
            counted=noted.counted,
            denied=noted.denied,
            why=noted.why,
            times=times,
            names=dict(noted.names),
        )


def _largest(rows: Mapping[str, _Row], most: int) -> list[tuple[str, _Row]]:
    return sorted(rows.items(), key=lambda item: (-item[1].times, item[0]))[:most]


def _weight(item: tuple[tuple[int, int], Mapping[str, _Row]]) -> int:
    return -sum(row.times for row in item[1].values())
