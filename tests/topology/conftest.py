"""The topology of docker-compose.yml, started once for all of these tests."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py

from tests import postgres

from .processes import Topology
from .programs import RABBITMQ

VARIABLES = {
    "ALLOWED_HOSTS": "localhost,127.0.0.1",
    "IOTA_TRUSTED_PROXIES": "127.0.0.1/32",
    # Browsers keep cookies of HTTPS for this machine's own address; no test can make it HTTPS here.
    "IOTA_SECURE_SSL_REDIRECT": "false",
    # A busy machine is no failure of Redis.
    "IOTA_REDIS_TIMEOUT_MS": "2000",
}
PASSWORD = secrets.token_urlsafe(12)
SLOW_TASKS = Path(__file__).with_name("slow_tasks.py")


def missing() -> str:
    """What the machine lacks for it."""
    try:
        postgres.binary("postgres")
    except postgres.NoPostgres as error:
        return str(error)
    return "" if RABBITMQ.exists() else f"no {RABBITMQ} (Debian: apt-get install rabbitmq-server)"


@pytest.fixture(scope="session")
def topology() -> Iterator[Topology]:
    """Migrated, with the demo's limits and a superuser ``staff``."""
    if lacks := missing():
        pytest.fail(lacks)
    folder = Path(tempfile.mkdtemp(prefix="iota-topology-"))
    made = Topology(folder, VARIABLES, ("cluster", "monitoring"), views=True)
    try:
        made.start()
        shutil.copy2(SLOW_TASKS, made.app / "tests")
        made.manage("loaddata", "demo_limits", "--verbosity", "0")
        made.manage("populate_history", "--auto", "--verbosity", "0")
        words = ("createsuperuser", "--noinput", "--username", "staff", "--email", "")
        made.manage(*words, DJANGO_SUPERUSER_PASSWORD=PASSWORD)
        for name in ("worker", "monitoring"):
            made.wait_until_healthy(name)
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def counters(topology) -> Iterator[redis_py.Redis]:
    """The counting server, as who may do everything."""
    url = topology.redis_url("iota-admin", "redis_admin_password")
    with redis_py.Redis.from_url(url, decode_responses=True) as client:
        yield client
