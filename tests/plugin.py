"""Loaded before Django's settings are: starts the tests' own Valkey and names it to them, and with
``--database=postgres`` a PostgreSQL.

A Redis that already runs on the machine is never asked: every variable that the project reads
is set here.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import redis

from . import databases, postgres
from .clusters import ClusterProcesses
from .servers import RedisProcess, flavours

USES = {"db", "transactional_db", "worker"}
"""Fixtures that have a database."""
OURS = ("IOTA_", "REDIS_", "CELERY_", "DATABASE_")

_server = RedisProcess()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=("sqlite", "postgres"),
        default="sqlite",
        help="what the tests' databases are of",
    )
    parser.addoption(
        "--only-database",
        action="store_true",
        help="leave out the tests that use no database, which cannot tell one from another",
    )


def uses_database(item: pytest.Item) -> bool:
    """Whether it may: pytest-django lets no other test at it, nor does ``tests.databases``."""
    if item.get_closest_marker("django_db") or USES & set(getattr(item, "fixturenames", ())):
        return True
    return _reaches(getattr(item, "module", None), set())


def _reaches(module: ModuleType | None, seen: set[str]) -> bool:
    """Whether it has anything of ``tests.databases``, or of a module of tests that has."""
    if module is None or module.__name__ in seen:
        return False
    seen.add(module.__name__)
    of = {getattr(one, "__module__", getattr(one, "__name__", "")) for one in vars(module).values()}
    names = [name for name in of if isinstance(name, str) and name.startswith("tests.")]
    return databases.__name__ in names or any(
        _reaches(sys.modules.get(name), seen) for name in names
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--only-database"):
        left_out = [item for item in items if not uses_database(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if uses_database(item)]
    if hasattr(config, "workerinput"):
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    """Of several processes that play a file each: what starts whole sites comes first, so that all
    of them end at about the same time."""
    folders = item.path.relative_to(item.config.rootpath).parts
    return 0 if folders[:2] == ("tests", "e2e") else 1 if folders[0] == "tests" else 2


def pytest_runtest_protocol(item: pytest.Item) -> None:
    databases.allowed = uses_database(item)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config,
) -> Generator[None, object, object]:
    """A wrapper, since pytest-django's own hook loads the settings and is first otherwise."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        del os.environ[name]
    folder = tempfile.mkdtemp(prefix="iota-tests-")
    # Not pytest_unconfigure: pytest leaves that out where the settings or an option are wrong.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(_server.stop)
    # Else a SIGTERM, as `timeout` sends it, would leave the server behind.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("SIGTERM", 128 + signal.SIGTERM))
    databases.session_folder = Path(folder)
    if early_config.known_args_namespace.database == "postgres":
        databases.server = postgres.start(databases.session_folder)
        atexit.register(databases.server.stop)
    os.environ.update(
        DATABASE_URL=databases.url_of(databases.session_folder),
        REDIS_URL=_server.start().url,
        SECRET_KEY=secrets.token_urlsafe(50),
        IOTA_IDENTITY_KEY=secrets.token_hex(32),
        IOTA_DEMO="1",
        IOTA_REDIS_TIMEOUT_MS="1000",
        ALLOWED_HOSTS="testserver,localhost,127.0.0.1",
    )
    return (yield)


@pytest.fixture
def redis_server() -> RedisProcess:
    """The server that the settings name."""
    return _server


@pytest.fixture
def redis_client() -> Iterator[redis.Redis]:
    """A client of it, with nothing in it."""
    with _server.client() as client:
        client.flushall()
        yield client


@pytest.fixture(scope="session", params=flavours())
def each_redis(request: pytest.FixtureRequest) -> Iterator[RedisProcess]:
    """A server of each flavour that the machine has, apart from the site's."""
    server = RedisProcess(request.param).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterProcesses]:
    """Three primaries, each with a replica, for tests that leave them as they were."""
    started = ClusterProcesses().start()
    yield started
    started.stop()
