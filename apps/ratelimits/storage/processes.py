"""The processes that serve, as each of them says of itself once a second.

How many there are is what the fallback divides quotas by; how each of them fares is what staff
see. One hash holds them all (lua/heartbeat.lua).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import redis

from . import scripts
from .failures import Kind, Outage, as_unavailable
from .keys import Keys
from .topology import Client

BEAT_S = 1.0
LOST_MS = 3_000
"""Two beats may be late or lost, as in a long pause or a timeout, before a process counts as gone.
While one too many is counted, each one's share is smaller, never larger."""


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """What a process says of itself: nothing about its clients, nor the name of its host.

    ``host`` is a digest, so that processes of one machine can be told from those of another.
    ``version`` is of the ruleset in force there, -1 for none. ``failures`` by kind and ``decided``
    by policy count from the process's start. ``seen_s``: how long ago it spoke, by Redis' clock.

    ``in_flight``: requests inside the middleware just now; ``pool_in_use``: connections of the
    sync path with a command on its way. ``config_load_us``: how long the site's configuration took
    to load when the process started; ``ruleset_compile_us``: the ruleset in force, to compile.
    """

    process: str
    pid: int
    host: str
    started_s: int
    version: int
    breaker: str = "closed"
    failures: Mapping[str, int] = field(default_factory=dict)
    decided: Mapping[str, int] = field(default_factory=dict)
    outage: Outage | None = None
    seen_s: float = 0.0
    in_flight: int = 0
    pool_in_use: int = 0
    config_load_us: int = 0
    ruleset_compile_us: int = 0

    @property
    def failing(self) -> bool:
        return self.outage is not None and self.outage.until_s is None

    def encode(self) -> str:
        """As JSON, of a bounded size: every part of it is."""
        said = asdict(self)
        del said["process"], said["seen_s"]
        return json.dumps(said, separators=(",", ":"))


def decode(process: str, text: str, seen_s: float) -> ProcessStatus | None:
    """The inverse of ``encode``. What another version of this code says beside is passed over,
    what it does not say is as nothing; None where it wrote another form."""
    try:
        said = {name: value for name, value in json.loads(text).items() if name in _SAID}
        outage = said["outage"]
        if outage is not None:
            outage = Outage(**{**outage, "kind": Kind(outage["kind"])})
        return ProcessStatus(process, **{**said, "outage": outage, "seen_s": seen_s})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


_SAID = {part.name for part in fields(ProcessStatus)} - {"process", "seen_s"}


class Processes:
    """Every method raises storage.errors.Unavailable where Redis does not answer."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._key = keys.processes

    def beat(self, status: ProcessStatus) -> int:
        """Say that a process lives. Returns how many do, at least 1."""
        said = status.encode()
        source = scripts.load("heartbeat").source
        alive = self._ask("eval", source, 1, self._key, status.process, said, LOST_MS)
        return max(1, int(alive))

    def leave(self, process: str) -> None:
        """It stops: nobody has to wait until it is missed."""
        self._ask("hdel", self._key, process)

    def alive(self) -> list[ProcessStatus]:
        """Those heard of within ``LOST_MS``, the oldest first."""
        source = scripts.load("living").source
        (seconds, part), *rows = self._ask("eval", source, 1, self._key)
        now_us = int(seconds) * 1_000_000 + int(part)
        found = []
        for process, row in zip(rows[::2], rows[1::2], strict=True):
            seen, _, text = row.decode(errors="replace").partition(" ")
            if not seen.isdecimal() or not text:
                continue  # When they were last swept.
            seen_s = max(0.0, (now_us - int(seen)) / 1_000_000)
            status = decode(process.decode(errors="replace"), text, seen_s)
            if status is not None and seen_s * 1000 < LOST_MS:
                found.append(status)
        return sorted(found, key=lambda status: (status.started_s, status.process))

    def _ask(self, command: str, *args: Any) -> Any:
        try:
            return getattr(self._client, command)(*args)
        except (redis.RedisError, OSError) as error:
            raise as_unavailable(error) or error from error
