"""Leaves a server alone that fails, and asks in the background whether it is well again.

No request is used to find that out: each would pay a timeout for it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import threading
import time
import weakref
from collections.abc import Callable

import redis

from .errors import BreakerOpen
from .forks import BeginsAnew

logger = logging.getLogger(__name__)

LEAST_WAIT = 0.5
"""Of the longest wait between two probes: drawn anew each time, so that processes which lost the
same server at the same moment do not all come back at the same moment."""


class Breaker(BeginsAnew):
    """Closed until ``failures`` calls in a row fail; then open until ``probe`` returns.

    ``probe`` raises redis.RedisError or OSError where the server cannot serve yet. It is called in
    a thread of its own, after up to ``open_s`` each time. While ``in_a_row`` is 0 neither
    ``before_call`` nor ``succeeded`` need be called.
    """

    def __init__(
        self, name: str, failures: int, open_s: float, probe: Callable[[], object]
    ) -> None:
        self.name = name
        self.failed_total = 0
        self.failed_s = -math.inf
        self._failures = failures
        self._open_s = open_s
        self._probe = probe
        super().__init__()

    def _begin(self) -> None:
        """Also in a forked child, which has no probing thread."""
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.in_a_row = 0
        self.open_since_s: float | None = None
        self._probing: threading.Thread | None = None

    @property
    def is_open(self) -> bool:
        return self.open_since_s is not None

    def before_call(self) -> None:
        """Raises BreakerOpen where the server is not to be asked."""
        if self.open_since_s is not None:
            self._probe_in_background()
            raise BreakerOpen(f"{self.name} failed repeatedly; not asked")

    def succeeded(self) -> None:
        # A reply to what was asked before it opened says nothing: the probe does.
        if self.in_a_row and self.open_since_s is None:
            with self._lock:
                if self.open_since_s is None:
                    self.in_a_row = 0

    def failed(self) -> None:
        with self._lock:
            self.failed_total += 1
            self.failed_s = time.monotonic()
            self.in_a_row += 1
            if self.in_a_row < self._failures or not self._may_open():
                return
            self.open_since_s = time.monotonic()
        self._probe_in_background()

    def trip(self) -> None:
        """Open at once: it is known by other means that the server does not answer."""
        with self._lock:
            if not self._may_open():
                return
            self.in_a_row = self._failures
            self.open_since_s = time.monotonic()
        self._probe_in_background()

    def _may_open(self) -> bool:
        return self.open_since_s is None and not self._stopped.is_set()

    def stop(self) -> None:
        """No more probes: nobody is to ask this server again. Who does is let through, always."""
        self._stopped.set()
        with self._lock:
            self._close()

    def probe_once(self) -> bool:
        """Whether the server is well, and the breaker closed again."""
        try:
            self._probe()
        except (redis.RedisError, OSError):
            return False
        with self._lock:
            self._close()
        return True

    def _close(self) -> None:
        self.in_a_row = 0
        self.open_since_s = None
        # It ends with this; the next failures may come before it has.
        self._probing = None

    def _probe_in_background(self) -> None:
        """Where nobody does yet. Asked for again by each call that is refused: a thread that
        cannot be started, or has died, would leave the server alone for ever."""
        probing = self._probing
        if probing is not None and probing.is_alive():
            return
        with self._lock:
            if self.open_since_s is None or self._probing is not probing:
                return
            self._probing = threading.Thread(
                target=_probe_until_well,
                args=(weakref.ref(self), self._stopped, self._open_s),
                name=f"ratelimits-probe-{self.name}",
                daemon=True,
            )
            with contextlib.suppress(RuntimeError):  # Out of threads, or at the interpreter's end.
                self._probing.start()


def _probe_until_well(
    of: weakref.ref[Breaker], stopped: threading.Event, longest_wait_s: float
) -> None:
    """Keeps no breaker alive that nobody else holds."""
    while not stopped.wait(longest_wait_s * random.uniform(LEAST_WAIT, 1)):
        breaker = of()
        if breaker is None:
            return
        try:
            if breaker.probe_once():
                return
        except Exception:
            # Else the server would never be asked again.
            logger.exception("The probe of %s failed for a reason of its own", breaker.name)
        del breaker
