"""Which limits live, as the sweeper has to know before it removes anything of one.

A limit is gone only where all of this is so:

- Neither the database nor the published ruleset has it, both read after its key was. A process
  can only count by what one of them held before, so whatever it wrote was of a limit that is gone.
- Its number is no higher than the highest that the database has ever given. What is beyond was
  never this database's: it may be a newer limit's, after a restore, or a limit that code makes.
- It has been gone for ``GRACE_S``: every process has heard of it by then, several times over.

An epoch is over under the same conditions: where both have a later one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from ..policy.rules import Ruleset
from .ruleset_store import RulesetStore

GRACE_S = 5.0
"""A process looks for edits once in 900 ms at the least."""
EPOCHS = 65_536
"""A record holds its limit's epoch modulo this."""


@dataclass(frozen=True, slots=True)
class Known:
    """The limits of the database, whatever their mode. ``epochs`` and ``windows_us`` by id;
    ``highest``: the highest id that it has ever given."""

    version: int
    epochs: Mapping[int, int] = field(default_factory=dict)
    windows_us: Mapping[int, int] = field(default_factory=dict)
    highest: int = 0


class Living:
    """``database`` reads the limits, given what it read last: the same object where nothing has
    changed since. Raises Unavailable, or what the database raises, from ``learn``."""

    def __init__(
        self,
        store: RulesetStore,
        database: Callable[[Known | None], Known],
        *,
        grace_s: float = GRACE_S,
        clock_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._database = database
        self._grace_s = grace_s
        self._clock_s = clock_s
        self._wall_s = wall_s
        self._known: Known | None = None
        self._published: Ruleset | None = None
        self._published_version: int | None = None
        # What decides: the newest facts, and those that were replaced within the grace time.
        self._facts: list[Known] = []
        self._replaced_s: list[float] = []
        self._quiet_until_s = 0.0

    def learn(self) -> bool:
        """Read what has changed; whether anything had."""
        known = self._database(self._known)
        version = self._store.version()
        if known is self._known and version == self._published_version:
            self._forget()
            return False
        published = self._published
        if version != self._published_version:
            published = self._store.fetch()
        facts = _joined(known, published)
        now_s = self._clock_s()
        if not self._facts and self._wall_s() - facts.version / 1_000_000 < self._grace_s:
            # An edit of just now, and what was before it is not known: nothing is gone yet.
            self._quiet_until_s = now_s + self._grace_s
        self._known, self._published, self._published_version = known, published, version
        if self._facts:
            self._replaced_s.append(now_s)
        self._facts.append(facts)
        self._forget()
        return True

    def _forget(self) -> None:
        now_s = self._clock_s()
        while self._replaced_s and now_s - self._replaced_s[0] >= self._grace_s:
            del self._replaced_s[0], self._facts[0]

    @property
    def newest(self) -> Known:
        return self._facts[-1]

    def lives(self, limit: int) -> bool:
        return limit in self.newest.epochs

    def is_gone(self, limit: int, epoch: int) -> bool:
        """``epoch``: whole, as a key has it."""
        return self._judged(lambda facts: _is_gone(facts, limit, lambda own: epoch < own))

    def deleted(self, limits: Iterable[int]) -> list[int]:
        """Those of them that are gone, in every epoch."""
        return [limit for limit in limits if self._judged(partial(_is_deleted, limit=limit))]

    def is_record_gone(self, limit: int, epoch: int) -> bool:
        """``epoch``: modulo EPOCHS, as a record has it."""

        def is_over(own: int) -> bool:
            return 0 < (own - epoch) % EPOCHS < EPOCHS // 2

        return self._judged(lambda facts: _is_gone(facts, limit, is_over))

    def _judged(self, judge: Callable[[Known], bool]) -> bool:
        if self._quiet_until_s and self._clock_s() < self._quiet_until_s:
            return False
        return all(judge(facts) for facts in self._facts)

    def window_us(self, limit: int) -> int | None:
        """The longest that anybody may still count by."""
        windows = [facts.windows_us.get(limit) for facts in self._facts]
        known = [window for window in windows if window is not None]
        return max(known) if known else None

    def epoch(self, limit: int) -> int | None:
        return self.newest.epochs.get(limit)


def _is_gone(facts: Known, limit: int, is_over: Callable[[int], bool]) -> bool:
    own = facts.epochs.get(limit)
    return _is_deleted(facts, limit) if own is None else is_over(own)


def _is_deleted(facts: Known, limit: int) -> bool:
    # 0 is what code checks by without a database.
    return limit not in facts.epochs and 0 < limit <= facts.highest


def _joined(known: Known, published: Ruleset | None) -> Known:
    """What either knows: the earlier epoch, which some process may still count by, and the longer
    window."""
    epochs, windows = dict(known.epochs), dict(known.windows_us)
    rules = published.rules if published else ()
    for rule in rules:
        epochs[rule.id] = min(rule.epoch, epochs.get(rule.id, rule.epoch))
        windows[rule.id] = max(rule.rate.window_us, windows.get(rule.id, 0))
    version = max(known.version, published.version if published else 0)
    return Known(version, epochs, windows, known.highest)
