"""Fixtures of what crosses apps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .databases import migrate
from .servers import RedisProcess
from .workers import Worker


@pytest.fixture
def worker(tmp_path) -> Iterator[Worker]:
    """Not started yet: on a migrated database and a Valkey of its own."""
    redis = RedisProcess().start()
    made = Worker(tmp_path, redis.url)
    try:
        migrate(made.environment)
        yield made
    finally:
        made.stop()
        redis.stop()
