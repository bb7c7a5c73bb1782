"""How many identities a limit counts, and who shares a count where they are too many.

A limit has a budget: so many identities in a period have a count of their own. Who comes when
more have come shares the limit's overflow bucket, with everyone else who is new; who came before
keeps what they had. Estimated in bounded memory: a HyperLogLog of all who came, a filter of those
with a count of their own (storage/known.py), both in Redis, common to all processes.

A request only looks into a set of this process, and while a limit is over its budget into the
filter's copy. What is new goes to Redis with ``flush``, in the background; until then every process
admits. Where Redis does not answer, what was known last holds until the period ends.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from ..policy.rules import CountedBy, Rule
from . import scripts
from .errors import Unavailable
from .failures import as_unavailable
from .keys import Keys
from .known import Known, packed
from .packing import PackedLimits
from .topology import Client

LEAST_PERIOD_S = 60
MOST_PERIOD_S = 86_400
MOST_KEPT_S = 2 * MOST_PERIOD_S + LEAST_PERIOD_S
"""So long a period's keys stay at most."""
MOST_ADMITTED = 20_000
"""Of a limit's identities so many are remembered; then anew: to send one twice is harmless."""
MOST_WAITING = 20_000
"""So many of a limit wait to be sent; others are not counted: they come again or matter little."""
CHUNK = 100
"""Of one call, since a call stops Redis for others: about half a millisecond."""
CHUNK_ARRIVED = 1_000
"""Those without a count of their own are only counted, which is quicker."""
READ_BYTES = 1 << 20
MOST_FLUSH_S = 0.3
"""Who flushes has an edit of the limits to look for as well: the rest waits for the next time."""
MOST_CARRIED = 2
"""Times the budget: who had a count in the last period keeps it while no more have one now."""

Asked = tuple[PackedLimits, tuple[str, ...]]
"""A set of limits and the digests of those it counts."""

logger = logging.getLogger(__name__)


def period_s(window_s: int) -> int:
    """A limit's window, but neither so short that it is over before all processes know, nor so
    long that an attack is felt for weeks."""
    return min(max(window_s, LEAST_PERIOD_S), MOST_PERIOD_S)


def period_of(rule: Rule) -> int:
    return period_s(rule.rate.window_us // 1_000_000)


@dataclass(frozen=True, slots=True)
class IdentityCount:
    """How many identities came to a limit in the period under way."""

    came: int
    budget: int
    period_s: int
    over_since_s: int | None


class _Limit:
    """What this process knows of one limit in the period under way."""

    __slots__ = (
        "admitted",
        "arrived",
        "before",
        "budget",
        "came",
        "copied_s",
        "known",
        "name",
        "over",
        "overflow",
        "own",
        "period",
        "period_s",
        "rule",
        "told",
        "waiting",
        "was_over",
    )

    def __init__(self, rule: Rule, budget: int, overflow: str) -> None:
        self.rule = rule
        self.budget = budget
        self.overflow = overflow
        self.period_s = period_of(rule)
        self.period = -1
        self.admitted: set[str] = set()
        """Those with a count of their own that this process remembers."""
        self.waiting: set[str] = set()
        """Those of them that Redis is to be told of."""
        self.arrived: set[str] = set()
        """Those who share a count, likewise."""
        self.known = self.before = Known()
        """Who has a count of its own in this period, and who had in the one before."""
        self.came = self.own = 0
        self.over = self.was_over = self.told = False
        self.copied_s = 0.0

    def knows(self, digest: str) -> bool:
        if digest in self.known:
            return True
        return self.own <= MOST_CARRIED * self.budget and digest in self.before

    def begin(self, period: int) -> None:
        """Another period: everyone may come again."""
        first, self.period = self.period < 0, period
        if first:
            return
        if self.told and not self.was_over:
            logger.info("Limit %s is within its identity budget again", self.rule.name)
            self.told = False
        self.forget()
        # Those of the last moment: who comes again is noted again.
        self.waiting.clear()
        self.arrived.clear()

    def forget(self) -> None:
        self.admitted.clear()
        self.known = self.before = Known()
        self.came = self.own = 0
        self.over = self.was_over = False


class IdentityBudgets:
    """Of the ruleset in force. ``digest`` makes the overflow bucket's; ``default``: the budget of
    limits that state none; 0 is none."""

    def __init__(
        self,
        client: Client,
        keys: Keys,
        digest: Callable[[tuple[str, ...]], str],
        default: int,
    ) -> None:
        self._client = client
        self._keys = keys
        self._digest = digest
        self._default = default
        self._limits: dict[int, _Limit] = {}
        self.settled: set[Asked] = set()
        """Checks of which everyone has a count of their own in this period: nothing is to be done
        for them. One look at it, however many limits match a request."""

    def budget(self, rule: Rule) -> int:
        """0: none."""
        if CountedBy.EVERYONE in rule.counted_by:
            return 0
        return self._default if rule.identities is None else rule.identities

    def install(self, rules: Sequence[Rule]) -> None:
        """Another ruleset is in force. A limit that counts on as it did keeps what is known."""
        limits = {}
        for rule in rules:
            if not (budget := self.budget(rule)):
                continue
            limit = self._limits.get(rule.id)
            if limit is None or (limit.rule.epoch, limit.period_s) != (rule.epoch, period_of(rule)):
                overflow = self._digest(("overflow", str(rule.id)))
                limit = _Limit(rule, budget, overflow)
            limit.rule, limit.budget = rule, budget
            limits[rule.id] = limit
        self._limits = limits
        self.settled.clear()

    def admit(
        self, rules: Sequence[Rule], places: Sequence[int], whom: Sequence[str]
    ) -> tuple[list[int], tuple[str, ...]]:
        """Places and digests to count: each limit's own, or where it is over its budget and does
        not know whom it counts, its overflow bucket's."""
        counted: dict[str, int] = {}
        found = []
        for rule, place in zip(rules, places, strict=True):
            limit = self._limits.get(rule.id)
            digest = whom[place] if limit is None else self._admit(limit, whom[place])
            found.append(counted.setdefault(digest, len(counted)))
        return found, tuple(counted)

    def counted_as(self, rule: Rule, digest: str) -> str:
        """The digest that ``admit`` would count now; nobody is admitted or told of."""
        limit = self._limits.get(rule.id)
        if limit is None or digest in limit.admitted or not limit.over or limit.knows(digest):
            return digest
        return limit.overflow

    def settle(self, asked: Asked) -> None:
        """Everyone whom this check counts was admitted."""
        if len(self.settled) >= MOST_ADMITTED:
            self.settled.clear()
        self.settled.add(asked)

    def _admit(self, limit: _Limit, digest: str) -> str:
        if digest in limit.admitted:
            return digest
        if limit.over and not limit.knows(digest):
            if len(limit.arrived) < MOST_WAITING:
                limit.arrived.add(digest)
            return limit.overflow
        if len(limit.admitted) >= MOST_ADMITTED:
            limit.admitted.clear()
        limit.admitted.add(digest)
        if len(limit.waiting) < MOST_WAITING:
            limit.waiting.add(digest)
        return digest

    def flush(self, now_s: float) -> None:
        """Tell Redis who is new, and learn how many there are. Raises Unavailable; what was not
        told waits."""
        limits = list(self._limits.values())
        began_s = time.monotonic()
        for limit in limits:
            period = int(now_s) // limit.period_s
            if period != limit.period:
                limit.begin(period)
                self.settled.clear()
        random.shuffle(limits)  # Where time is short, none is always the last.
        for limit in limits:
            while limit.waiting or limit.arrived:
                if time.monotonic() - began_s > MOST_FLUSH_S:
                    break
                self._tell(limit)
            self._judge(limit, now_s)

    def forget(self) -> None:
        """Redis has lost what it knew."""
        for limit in self._limits.values():
            limit.forget()
        self.settled.clear()

    def count(self, rule: Rule, now_s: float) -> IdentityCount | None:
        """As Redis has it now; None without a budget. Raises Unavailable."""
        budget = self.budget(rule)
        if not budget:
            return None
        seconds = period_of(rule)
        came = self._ask("pfcount", self._keys.identities_came(rule, int(now_s) // seconds))
        since = self._ask("get", self._keys.identities_over(rule)) if came > budget else None
        return IdentityCount(came, budget, seconds, None if since is None else int(since))

    def _tell(self, limit: _Limit) -> None:
        """One call."""
        waiting = _take(limit.waiting, CHUNK)
        arrived = _take(limit.arrived, CHUNK_ARRIVED)
        keys, rule = self._keys, limit.rule
        words = (
            4,
            keys.identities_came(rule, limit.period),
            keys.identities_own(rule, limit.period),
            keys.identities_known(rule, limit.period),
            keys.identities_over(rule),
            limit.budget,
            2 * limit.period_s + LEAST_PERIOD_S,
            packed(waiting),
            packed(arrived),
        )
        script = scripts.load("identities")
        try:
            try:
                reply = self._ask("evalsha", script.sha, *words)
            except redis.exceptions.NoScriptError:
                reply = self._ask("eval", script.source, *words)
        except Unavailable:
            limit.waiting.update(waiting)
            limit.arrived.update(arrived)
            raise
        limit.came, limit.own = int(reply[0]), int(reply[1])

    def _judge(self, limit: _Limit, now_s: float) -> None:
        """Over or not; over only with the filter at hand, so that nobody who is known suffers."""
        if limit.came <= limit.budget:
            limit.over = False
            return
        if not limit.over:
            limit.known = self._read(limit, limit.period)
            limit.before = self._read(limit, limit.period - 1)
            limit.copied_s = now_s
            limit.over = limit.was_over = True
            if not limit.told:
                limit.told = True
                logger.warning(
                    "Limit %s: about %s different identities within %s s, over its budget of %s; "
                    "new ones share one count",
                    limit.rule.name,
                    f"{limit.came:,}",
                    f"{limit.period_s:,}",
                    f"{limit.budget:,}",
                )
        elif limit.copied_s and now_s - limit.copied_s >= 1:
            # Once more, for those whom other processes admitted before they knew.
            limit.known = self._read(limit, limit.period)
            limit.copied_s = 0.0

    def _read(self, limit: _Limit, period: int) -> Known:
        """In pieces: a long reply would stop Redis for others."""
        key = self._keys.identities_known(limit.rule, period)
        pieces: list[bytes] = []
        while not pieces or len(pieces[-1]) == READ_BYTES:
            at = len(pieces) * READ_BYTES
            pieces.append(self._ask("getrange", key, at, at + READ_BYTES - 1))
        return Known(b"".join(pieces))

    def _ask(self, command: str, *words: Any) -> Any:
        try:
            return getattr(self._client, command)(*words)
        except redis.exceptions.NoScriptError:
            raise
        except (redis.RedisError, OSError) as error:
            raise as_unavailable(error) or error from error


def _take(digests: set[str], most: int) -> list[str]:
    """Out of a set to which threads add at the same time."""
    taken: list[str] = []
    while len(taken) < most:
        try:
            taken.append(digests.pop())
        except KeyError:
            break
    return taken
