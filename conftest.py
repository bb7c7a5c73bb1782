"""Fixtures of every test that needs Django; servers are in ``tests/plugin.py``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from apps.ratelimits.engine import Engine, get_engine


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file, as on a real site: the engine's poller reads it from a thread of its own."""
    from django.conf import settings

    folder = tmp_path_factory.mktemp("database")
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        settings.DATABASES["default"]["TEST"]["NAME"] = str(folder / "test.sqlite3")


@pytest.fixture
def engine(redis_client: redis.Redis, transactional_db: Any) -> Iterator[Engine]:
    """This process's engine, made anew, on an empty Valkey and a database that commits."""
    get_engine.cache_clear()
    made = get_engine()
    yield made
    made.stop()
    made.limiter.close()
    get_engine.cache_clear()
