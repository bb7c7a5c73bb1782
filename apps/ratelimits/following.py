"""Follows the limits: brings the newest into force, from wherever they can be had.

=====================  ====================================================================
in force are those of  while
=====================  ====================================================================
Redis                  it answers; its version is looked at several times a second
the last time          Redis is away, or has lost them and another process puts them back
the database           this process has none yet, or cannot use what is published
nobody                 Redis and the database are both away, or slow, when the process starts
=====================  ====================================================================

The database is read in a thread of its own: one that hangs keeps nobody from looking at Redis.
One that fails is asked again ever more rarely, each process at times of its own, so that it is
not overrun when it comes up.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait

import django.db

from .policy.rules import Ruleset
from .storage.errors import Unavailable
from .storage.failures import Failures
from .storage.ruleset_store import FIRST_LOOK, LOCK_MS, Look, RulesetStore

logger = logging.getLogger(__name__)

READ_WAIT_S = 0.1
"""How long one look waits for the database; what comes later is used by a later look."""
REBUILD_WAIT_S = 0.3
"""How long, at least, a process without limits waits for the one that puts them back in Redis
before it reads the database itself; twice as long at most."""
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 10.0
"""Pauses after the database failed: each twice the last, less up to a half of it by chance."""
UNUSABLE = ValueError, TypeError, KeyError, AttributeError
"""What limits raise that another version of this code has published."""


class _NotYet(Exception):
    """The database is not to be asked yet, or has not answered yet."""


class Follower:
    """``install`` puts a ruleset into force; ``reset`` hears who was reset in another process, and
    ``lost`` that Redis is away while there are no limits yet.

    ``settled`` is set once limits are in force or it is known that there are none to be had.
    """

    def __init__(
        self,
        store: RulesetStore,
        load: Callable[[], Ruleset],
        install: Callable[[Ruleset], None],
        reset: Callable[[frozenset[str] | None], None],
        lost: Callable[[], None],
        failures: Failures,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._load = load
        self._install = install
        self._reset = reset
        self._lost = lost
        self._failures = failures
        self._clock_s = clock_s
        self.version = -1
        self._last_look: Look = FIRST_LOOK
        self.begin()

    def begin(self) -> None:
        """Also in a forked child: a reading of its parent's never ends there."""
        self.settled = threading.Event()
        self._reading: Future[Ruleset] | None = None
        self._next_read_s = self._lock_until_s = 0.0
        self._own_read_s: float | None = None
        self._retry_s = FIRST_RETRY_S
        # Published versions that cannot be used here, and that the database's stand in for.
        self._unusable: int | None = None
        self._replaced: int | None = None
        self._said = ""

    def turn(self) -> None:
        """One look, as the poller takes it. Raises nothing, and waits for nobody for long."""
        try:
            over = self._follow(patient=True)
        except Exception as error:
            self._say(logging.ERROR, repr(error), "Version %d of the limits stays", self.version)
            over = True
        if over or self.version >= 0:
            self.settled.set()

    def refresh(self) -> None:
        """Bring the newest into force at once, in this thread."""
        self._follow(patient=False)

    def _follow(self, *, patient: bool) -> bool:
        """Whether it is known by now what is to be had."""
        try:
            version = self._look()
            if version is None:
                return self._rebuild(patient)
            if version in (self.version, self._replaced):
                self._said = ""
                return True
            if version != self._unusable and self._fetched(version):
                return True
            self._unusable = version
            read = self._read(patient, f"version {version} in Redis cannot be used here")
            if read:
                self._replaced = version
            return read is not None
        except Unavailable as error:
            self._failures.note(error)
            if self.version >= 0:
                return True
            self._lost()
            return self._read(patient, f"Redis is away ({error})") is not None

    def _look(self) -> int | None:
        """The version in Redis. Who was reset meanwhile is forgotten here too: all, where Redis
        has lost what it knew."""
        look = self._last_look = self._store.look(self._last_look)
        if look.reset is None or look.reset:
            self._reset(look.reset)
        return look.version

    def _fetched(self, version: int) -> bool:
        try:
            newest = self._store.fetch()
            if newest is not None:
                self._put(newest, "Redis")
        except UNUSABLE as error:
            logger.error("Version %d of the limits in Redis cannot be used: %r", version, error)
            return False
        return True

    def _put(self, newest: Ruleset, source: str) -> None:
        if newest.version == self.version:
            return
        self._install(newest)
        self.version = newest.version
        logger.info(
            "Ruleset %d in force, from %s: %d limits", self.version, source, len(newest.rules)
        )

    def _rebuild(self, patient: bool) -> bool:
        """Redis has lost the limits: one process puts them back, the others wait for it."""
        now_s = self._clock_s()
        if now_s >= self._lock_until_s:
            if not self._store.try_lock():
                return self._wait_for_another(now_s, patient)
            self._lock_until_s = now_s + LOCK_MS / 1000
        read = self._read(patient, "Redis has none", publish=True)
        if read:
            self._lock_until_s = 0.0
        return read is not None

    def _wait_for_another(self, now_s: float, patient: bool) -> bool:
        if self.version >= 0:
            return True
        if patient:
            if self._own_read_s is None:
                self._own_read_s = now_s + REBUILD_WAIT_S * random.uniform(1, 2)
            if now_s < self._own_read_s:
                return False
        why = "Redis has none, and nobody has put them there"
        return self._read(patient, why) is not None

    def _read(self, patient: bool, why: str, *, publish: bool = False) -> bool | None:
        """Bring the database's limits into force: whether it has any, None where it has not
        answered yet."""
        try:
            newest = self._patiently() if patient else self._load()
        except _NotYet:
            return None
        except django.db.Error as error:
            # Before the first `migrate` the site runs without limits.
            stays = "no limit is in force here, and IOTA_NO_RULESET decides"
            if self.version >= 0:
                stays = f"version {self.version} stays"
            said = "The limits cannot be had: %s, and the database fails (%s); %s"
            self._say(logging.ERROR, "database", said, why, error, stays)
            return False
        if self.version < 0 and not publish:
            self._say(logging.WARNING, "redis", "The limits come from the database: %s", why)
        self._put(newest, "the database")
        if publish:
            self._store.publish(newest)
        return True

    def _patiently(self) -> Ruleset:
        """Raises _NotYet, or what the database raised."""
        if self._reading is None:
            if self._clock_s() < self._next_read_s:
                raise _NotYet
            self._reading = Future()
            threading.Thread(
                target=self._read_into,
                args=(self._reading,),
                name="ratelimits-database",
                daemon=True,
            ).start()
        if not wait([self._reading], READ_WAIT_S).done:
            raise _NotYet
        reading, self._reading = self._reading, None
        if reading.exception() is None:
            self._retry_s = FIRST_RETRY_S
        else:
            self._next_read_s = self._clock_s() + self._retry_s * random.uniform(0.5, 1)
            self._retry_s = min(LAST_RETRY_S, 2 * self._retry_s)
        return reading.result()

    def _read_into(self, reading: Future[Ruleset]) -> None:
        try:
            reading.set_result(self._load())
        except BaseException as error:
            reading.set_exception(error)
        finally:
            django.db.connections.close_all()

    def _say(self, level: int, what: str, message: str, *args: object) -> None:
        """Once, until something else is to be said or all is well again."""
        if what != self._said:
            self._said = what
            logger.log(level, message, *args, exc_info=what not in ("database", "redis"))
