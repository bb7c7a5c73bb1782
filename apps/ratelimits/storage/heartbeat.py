"""One process's pulse: it says once a second that it lives and how it fares, and learns how many
others do."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from .errors import Unavailable
from .limiter import RateLimiter
from .processes import BEAT_S, Processes, ProcessStatus
from .tally import Tally

HOST_BYTES = 4


@dataclass(slots=True)
class Took:
    """What is told of this process beside what its limiter knows, us."""

    config_load_us: int = 0
    ruleset_compile_us: int = 0


class Heartbeat:
    """Beats where it is asked to, when it is time; the engine's poller asks.

    A process is a random number, drawn anew after a fork: a child never speaks as its parent.
    """

    def __init__(
        self,
        processes: Processes,
        limiter: RateLimiter,
        version: Callable[[], int],
        *,
        host_key: bytes,
        clock_s: Callable[[], float] = time.monotonic,
        tally: Tally | None = None,
        took: Took | None = None,
    ) -> None:
        self._processes = processes
        self._limiter = limiter
        self._version = version
        self._host = blake2b(platform.node().encode(), key=host_key, digest_size=HOST_BYTES)
        self._clock_s = clock_s
        self._tally = tally
        self._took = took or Took()
        self._pid = 0
        self._process = ""
        self._started_s = 0
        self._last_s = float("-inf")

    def beat(self) -> None:
        """Where a second has gone by since the last time. Raises what is no failure of Redis."""
        now_s = self._clock_s()
        if self._pid != os.getpid():
            self._pid, self._process = os.getpid(), os.urandom(8).hex()
            self._started_s, self._last_s = int(time.time()), float("-inf")
        if now_s - self._last_s < BEAT_S:
            return
        self._last_s = now_s
        try:
            alive = self._processes.beat(self.status())
        except Unavailable as error:
            # The last known number stays: nobody can be counted now.
            self._limiter.failures.note(error)
            return
        self._limiter.count_processes(alive)
        self._limiter.failures.answered()

    def status(self) -> ProcessStatus:
        """What this process says of itself."""
        failures = self._limiter.failures
        left_alone = any(node.breaker.is_open for node in self._limiter.redis.nodes)
        return ProcessStatus(
            process=self._process,
            pid=os.getpid(),
            host=self._host.hexdigest(),
            started_s=self._started_s,
            version=self._version(),
            breaker="open" if left_alone else "closed",
            failures={str(kind): number for kind, number in failures.by_kind.copy().items()},
            decided={str(policy): number for policy, number in failures.by_policy.copy().items()},
            outage=failures.outage,
            in_flight=self._tally.in_flight if self._tally else 0,
            pool_in_use=sum(node.connections.in_use for node in self._limiter.redis.nodes),
            config_load_us=self._took.config_load_us,
            ruleset_compile_us=self._took.ruleset_compile_us,
        )

    def leave(self) -> None:
        """Where Redis does not hear it, this process is missed within ``LOST_MS``."""
        if not self._process or self._pid != os.getpid():
            return
        try:
            self._processes.leave(self._process)
        except Unavailable as error:
            self._limiter.failures.note(error)
        self._pid = 0
