"""Fixtures of every test that needs Django; servers are in ``tests/plugin.py``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import redis

from apps.ratelimits import engine as engine_module
from apps.ratelimits.engine import Engine, forget_engine, get_engine


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file, as on a real site: the engine's poller reads it from a thread of its own."""
    from django.conf import settings

    folder = tmp_path_factory.mktemp("database")
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        settings.DATABASES["default"]["TEST"]["NAME"] = str(folder / "test.sqlite3")


ROWS = (
    ("apps.ratelimits.migrations.0008_sweep_schedule", "schedule"),
    ("apps.ratelimits.migrations.0009_usage_roll_ups", "schedule"),
    ("apps.ratelimits.migrations.0012_rights", "groups"),
    ("apps.benchmarks.migrations.0003_schedule", "schedule"),
    ("apps.monitoring.migrations.0002_watch", "schedule"),
    ("apps.monitoring.migrations.0004_alert_rules", "rows"),
)
"""What makes the rows that ``migrate`` leaves, each where it is not there."""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """A test that commits has all tables emptied after it: the next finds a migrated site."""
    from django.apps import apps
    from django.db.models.signals import post_migrate

    rows = [getattr(import_module(module), name) for module, name in ROWS]

    def after_flush(sender: Any, **kwargs: Any) -> None:
        if sender is last:
            for make in rows:
                make(apps, None)

    last = list(apps.get_app_configs())[-1]
    post_migrate.connect(after_flush, weak=False, dispatch_uid="rows-of-migrations")


@pytest.fixture
def engine(redis_client: redis.Redis, transactional_db: Any) -> Iterator[Engine]:
    """This process's engine, made anew, on an empty Valkey and a database that commits."""
    forget_engine()
    made = get_engine()
    yield made
    made.stop()
    made.limiter.close()
    forget_engine()


@pytest.fixture(autouse=True)
def _no_engine_of_a_test_before() -> Iterator[None]:
    """A test that made an engine takes it and its ruleset along."""
    yield
    left = engine_module._engine
    if left is None:
        return
    left.stop()
    with contextlib.suppress(redis.RedisError, OSError):
        left.store._client.delete(left.limiter.keys.ruleset)
    left.limiter.close()
    forget_engine()
