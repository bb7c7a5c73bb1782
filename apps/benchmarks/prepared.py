"""What every benchmark is given: a server of the run's own, on the same core as this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from . import cores
from .registry import Run
from .servers import embedded_valkey


@contextmanager
def prepared(rounds: int) -> Iterator[Run]:
    """For as long as the run takes. Raises ServerFailed."""
    found = cores.usable()
    core, load_core = (found[0], found[-1]) if found else (None, None)
    with (
        cores.pinned(core),
        embedded_valkey() as server,
        redis.Redis.from_url(server.url) as client,
    ):
        yield Run(server, client, rounds, core, load_core)
