"""What went wrong between us and Redis, by kind, and how many requests were decided without it.

Nothing here names a client, an address or a password: the numbers go into Redis with each
heartbeat, and staff see them in the admin.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import redis

from ..policy.rules import FailurePolicy
from .errors import Unavailable
from .forks import BeginsAnew

logger = logging.getLogger(__name__)

QUIET_S = 2.0
"""An outage is over once Redis answers and nothing has failed for so long: a server that fails
every other call is one outage, not hundreds."""
REMARK_S = 60.0
"""At most one line in the log that often, and one at the end of what it was about. A failure that
is over at once and cost no request anything is counted, and not remarked on."""


class Kind(StrEnum):
    """Of a failed call; ``words`` is how it is told to a person."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    LOADING = "loading"
    READONLY = "readonly"
    OOM = "oom"
    CLUSTERDOWN = "clusterdown"
    AUTH = "auth"
    MAX_CLIENTS = "max_clients"
    POOL = "pool"
    BUSY = "busy"
    WRONG_KEY = "wrong_key"
    OTHER = "other"

    @property
    def words(self) -> str:
        return _WORDS[self]

    @property
    def of_server(self) -> bool:
        """Whether another call would fail as well. Who finds a stranger's key where an identity's
        bucket should be has a server that answers."""
        return self is not Kind.WRONG_KEY


_WORDS = {
    Kind.TIMEOUT: "no answer in time",
    Kind.CONNECTION: "connection refused or lost",
    Kind.LOADING: "still loading its data",
    Kind.READONLY: "refuses writes",
    Kind.OOM: "out of memory",
    Kind.CLUSTERDOWN: "cluster down",
    Kind.AUTH: "not permitted",
    Kind.MAX_CLIENTS: "takes no more clients",
    Kind.POOL: "all of the process's connections in use",
    Kind.BUSY: "busy with a script",
    Kind.WRONG_KEY: "a key of ours holds something else",
    Kind.OTHER: "another error",
}

_errors = redis.exceptions
# The first that fits. Before them stand replies, which redis-py gives classes of their own or not.
_CLASSES: tuple[tuple[type[Exception], Kind], ...] = (
    (_errors.MaxConnectionsError, Kind.POOL),
    (_errors.BusyLoadingError, Kind.LOADING),
    (_errors.AuthenticationError, Kind.AUTH),
    (_errors.AuthorizationError, Kind.AUTH),
    (_errors.ExternalAuthProviderError, Kind.AUTH),
    (_errors.AuthenticationWrongNumberOfArgsError, Kind.AUTH),
    (_errors.NoPermissionError, Kind.AUTH),
    (_errors.ReadOnlyError, Kind.READONLY),
    (_errors.OutOfMemoryError, Kind.OOM),
    (_errors.ClusterDownError, Kind.CLUSTERDOWN),
    (_errors.AskError, Kind.CLUSTERDOWN),  # MovedError too.
    (_errors.TryAgainError, Kind.CLUSTERDOWN),
    (_errors.SlotNotCoveredError, Kind.CLUSTERDOWN),
    (redis.TimeoutError, Kind.TIMEOUT),
    (TimeoutError, Kind.TIMEOUT),
    (redis.ConnectionError, Kind.CONNECTION),
    (OSError, Kind.CONNECTION),
)
# Replies that say "not now" or "not I", as opposed to "your script is wrong": their first word.
_WORD = {
    "LOADING": Kind.LOADING,
    "READONLY": Kind.READONLY,
    "MISCONF": Kind.READONLY,
    "NOREPLICAS": Kind.READONLY,
    "OOM": Kind.OOM,
    "CLUSTERDOWN": Kind.CLUSTERDOWN,
    "MASTERDOWN": Kind.CLUSTERDOWN,
    "NOAUTH": Kind.AUTH,
    "WRONGPASS": Kind.AUTH,
    "NOPERM": Kind.AUTH,
    "BUSY": Kind.BUSY,
    "UNKILLABLE": Kind.BUSY,
    "WRONGTYPE": Kind.WRONG_KEY,
}
# What older servers say in the midst of a script's error, and replies without a word of their own.
_PHRASES = (
    ("max number of clients", Kind.MAX_CLIENTS),
    ("command not allowed when used memory", Kind.OOM),
    ("can't write against a read only", Kind.READONLY),
    ("Operation against a key holding the wrong kind", Kind.WRONG_KEY),
    ("Script killed", Kind.BUSY),
    # An ACL that lacks a command or key of a script's: Valkey's words, and Redis 7.0's.
    ("ACL failure in script", Kind.AUTH),
    ("The user executing the script can't", Kind.AUTH),
    # While its slot moves, and its keys are on either side.
    ("attempted to access a non local key", Kind.CLUSTERDOWN),
)
_OURS = redis.DataError, _errors.NoScriptError, _errors.ClusterCrossSlotError
"""Mistakes of ours, whatever the server: NOSCRIPT was answered by sending the script."""


def kind_of(error: BaseException) -> Kind | None:
    """Of an error in a call to Redis; None where it is a mistake of ours and must surface.

    A key under our prefix that somebody else has made (WRONGTYPE) is no mistake of ours: the
    identity that it stands in the way of is decided by policy, visibly, and nobody gets a 500.
    """
    if isinstance(error, Unavailable):
        return (error.__cause__ and kind_of(error.__cause__)) or Kind.OTHER
    if isinstance(error, _OURS):
        return None
    text = str(error)[:300]
    for phrase, kind in _PHRASES:
        if phrase in text:
            return kind
    for of, kind in _CLASSES:
        if isinstance(error, of):
            return kind
    if isinstance(error, redis.ResponseError):
        return _WORD.get(text.partition(" ")[0])
    return Kind.OTHER if isinstance(error, redis.RedisError) else None


def as_unavailable(error: Exception) -> Unavailable | None:
    """The error as Unavailable, or None where it is a mistake of ours and must surface."""
    return Unavailable(f"{type(error).__name__}: {error}") if kind_of(error) else None


@dataclass(frozen=True, slots=True)
class Outage:
    """``since_s`` and ``until_s`` as seconds since 1970; ``until_s`` None: it goes on. ``decided``:
    requests that were decided by policy meanwhile, in this process."""

    kind: Kind
    since_s: float
    until_s: float | None = None
    decided: int = 0


class Failures(BeginsAnew):
    """One limiter's, in one process: a forked child counts its own.

    ``note`` each failed call, ``decided`` each request that a policy decided, ``answered`` now
    and then while Redis serves (the heartbeat does).
    """

    def __init__(
        self,
        clock_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._clock_s = clock_s
        self._wall_s = wall_s
        super().__init__()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self.by_kind: Counter[Kind] = Counter()
        self.by_policy: Counter[FailurePolicy] = Counter()
        self.outage: Outage | None = None
        """The one that goes on, or the last."""
        self._node = ""
        self._began_s = self._last_s = 0.0
        self._said_s = float("-inf")
        self._told = False
        # Outages that ended before a line about them was due.
        self._untold: list[Outage] = []

    @property
    def total(self) -> int:
        return self.by_kind.total()

    @property
    def failing(self) -> bool:
        return self.outage is not None and self.outage.until_s is None

    def note(self, error: BaseException, node: str = "") -> Kind:
        """A call failed. ``node``: of which server."""
        kind = kind_of(error) or Kind.OTHER
        with self._lock:
            self.by_kind[kind] += 1
            self._node = node or self._node
            self._remark(self._goes_on(kind))
        return kind

    def decided(self, policy: FailurePolicy) -> None:
        """A request was decided by policy, whether Redis was asked or known to be away."""
        with self._lock:
            self.by_policy[policy] += 1
            outage = self._goes_on(self.outage.kind if self.outage else Kind.OTHER)
            self.outage = replace(outage, decided=outage.decided + 1)
            self._remark(self.outage)

    def _goes_on(self, kind: Kind) -> Outage:
        """An outage that goes on from now at least, named after its latest failure."""
        self._last_s = self._clock_s()
        outage = self.outage
        if outage is None or outage.until_s is not None:
            self._began_s = self._last_s
            self._told = False
            outage = Outage(kind, self._wall_s())
        elif outage.kind is not kind:
            outage = replace(outage, kind=kind)
        self.outage = outage
        return outage

    def _remark(self, outage: Outage) -> None:
        now_s = self._last_s
        if now_s - self._said_s < REMARK_S or not self._matters(outage):
            return
        at = f" at {self._node}" if self._node else ""
        if self._told:
            logger.warning(
                "Redis%s has been failing for %.0f s (%s): %s requests decided by policy so far",
                at,
                now_s - self._began_s,
                outage.kind.words,
                f"{outage.decided:,}",
            )
        else:
            logger.warning("Redis%s fails (%s): each limit's policy decides", at, outage.kind.words)
        self._said_s = now_s
        self._told = True

    def _matters(self, outage: Outage) -> bool:
        return outage.decided > 0 or self._last_s - self._began_s >= QUIET_S

    def answered(self) -> None:
        """Redis has just served a call that writes. Ends an outage that has been quiet."""
        if not self.failing and not self._untold:
            return
        with self._lock:
            now_s = self._clock_s()
            if self.outage and self.failing and now_s - self._last_s >= QUIET_S:
                self.outage = replace(self.outage, until_s=self._wall_s())
                self._tell_end(self.outage, now_s)
            if self._untold and now_s - self._said_s >= REMARK_S:
                logger.warning(
                    "Redis failed %s more times, and serves again: %s requests were decided by "
                    "policy",
                    f"{len(self._untold):,}",
                    f"{sum(outage.decided for outage in self._untold):,}",
                )
                self._untold.clear()
                self._said_s = now_s

    def _tell_end(self, outage: Outage, now_s: float) -> None:
        if self._told:
            logger.warning(
                "Redis serves the limits again after %.0f s: %s requests were decided by policy "
                "meanwhile",
                now_s - self._began_s,
                f"{outage.decided:,}",
            )
        elif self._matters(outage):
            self._untold.append(outage)
