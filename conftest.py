"""Fixtures of every test that needs Django; servers are in ``tests/plugin.py``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from apps.ratelimits import engine as engine_module
from apps.ratelimits.engine import Engine, forget_engine, get_engine
from tests import databases

# What they share says what it found where an assertion of it fails, as they themselves do.
pytest.register_assert_rewrite("apps.ratelimits.tests")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file, as on a real site: the engine's poller reads it from a thread of its own."""
    from django.conf import settings

    folder = tmp_path_factory.mktemp("database")
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        settings.DATABASES["default"]["TEST"]["NAME"] = str(folder / "test.sqlite3")


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """A PostgreSQL ends with the tests: nobody needs to wait until no thread is connected."""
    return databases.server is not None


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """A test that commits has all tables emptied after it: the next finds a migrated site.

    By its rows, as they are kept here: ``post_migrate``, which Django sends after each emptying,
    took half a second to make them again, of each test that commits.
    """
    from django.apps import apps
    from django.core.management.commands import flush
    from django.db import transaction

    with django_db_blocker.unblock():
        kept = [
            (model, rows)
            for model in apps.get_models(include_auto_created=True)
            if not model._meta.proxy and (rows := list(model._base_manager.all()))
        ]

    def put_back(*_: Any) -> None:
        with transaction.atomic():
            for model, rows in kept:
                model._base_manager.bulk_create(rows)

    flush.emit_post_migrate_signal = put_back


@pytest.fixture
def engine(redis_client: redis.Redis, transactional_db: Any) -> Iterator[Engine]:
    """This process's engine, made anew, on an empty Valkey and a database that commits."""
    forget_engine()
    made = get_engine()
    yield made
    end(made)


@pytest.fixture(autouse=True)
def _no_engine_of_a_test_before() -> Iterator[None]:
    """A test that made an engine takes it along."""
    yield
    if engine_module._engine is not None:
        end(engine_module._engine)


def end(engine: Engine) -> None:
    """With its ruleset: another test's site would enforce it."""
    engine.stop()
    with contextlib.suppress(redis.RedisError, OSError):
        engine.store._client.delete(engine.limiter.keys.ruleset)
    engine.limiter.close()
    forget_engine()
