"""PostgreSQL ends under a running site and its worker, and comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import requests

from iota.database import ASGI_POOL

from . import postgres
from .databases import rows
from .servers import RedisProcess
from .sites import SiteProcess, environment, manage
from .test_postgres import needs_postgres
from .workers import WAIT_S, Worker

pytestmark = needs_postgres

SETUP = """
from django.contrib.auth.models import User
from apps.ratelimits.models import RateLimit
RateLimit.objects.create(name="of-all", quota=100_000, path_kind="prefix", path="/api/")
User.objects.create_superuser("ada", password="pw")
"""
BACK_WITHIN_S = 20
THREADS = 8
"""Of the site, as tests/sites.py starts it."""
SAMPLED = "SELECT ended_at FROM monitoring_turn WHERE job = 'sample'"


@pytest.fixture
def server(tmp_path) -> Iterator[postgres.PostgresServer]:
    with postgres.start(tmp_path) as started:
        yield started


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    started = RedisProcess().start()
    yield started
    started.stop()


def signed_in(site: SiteProcess) -> requests.Session:
    session = requests.Session()
    page = f"{site.url}/admin/login/"
    session.get(page, timeout=10)
    fields = {
        "username": "ada",
        "password": "pw",
        "csrfmiddlewaretoken": session.cookies["csrftoken"],
    }
    assert session.post(page, fields, timeout=10, allow_redirects=False).status_code == 302
    return session


def pages(session: requests.Session, site: SiteProcess) -> set[int]:
    """What a page of the admin's answers, asked so often at once that every thread is."""

    def ask(_: int) -> int:
        page = f"{site.url}/admin/password_change/"
        return requests.get(page, cookies=session.cookies, timeout=30).status_code

    with ThreadPoolExecutor(2 * THREADS) as threads:
        return set(threads.map(ask, range(4 * THREADS)))


def connected(server: postgres.PostgresServer) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'iota'"
    return rows(server.url, query)[0][0]


@pytest.mark.parametrize("interface", ["wsgi", "asginl"])
def test_a_site_limits_without_its_database_and_finds_it_when_it_is_back(
    server, redis, tmp_path, interface
):
    variables = environment(tmp_path, redis.url, DATABASE_URL=server.url)
    manage(variables, "migrate", "--verbosity", "0")
    manage(variables, "shell", "-v", "0", "-c", SETUP)
    site = SiteProcess(tmp_path, variables, interface=interface).start()
    try:
        session = signed_in(site)
        assert pages(session, site) == {200}
        assert 0 < connected(server) <= (THREADS if interface == "wsgi" else ASGI_POOL)
        server.stop(remove=False)
        server.start()
        # Each thread, or the pool, has connections that ended: no client hears of it.
        assert pages(session, site) == {200}
        server.stop(remove=False)
        for _ in range(3):
            answer = requests.get(f"{site.url}/api/test", timeout=5)
            assert (answer.status_code, "of-all" in answer.headers["RateLimit"]) == (200, True)
        ready = requests.get(f"{site.url}/readyz", timeout=20)
        assert (ready.status_code, ready.json()["database"]) == (503, "unavailable")
        server.start()
        deadline = time.monotonic() + BACK_WITHIN_S
        while requests.get(f"{site.url}/readyz", timeout=20).status_code != 200:
            assert time.monotonic() < deadline, site.said()
            time.sleep(0.1)
        assert pages(session, site) == {200}
    finally:
        site.stop()


def sampled(worker: Worker, after: datetime = datetime(1, 1, 1, tzinfo=UTC)) -> None:
    deadline = time.monotonic() + WAIT_S
    while not any(ended and ended > after for (ended,) in worker.rows(SAMPLED)):
        assert time.monotonic() < deadline, worker.log.read_text()
        time.sleep(0.1)


def test_worker_and_beat_go_on_when_it_is_back(server, redis, tmp_path):
    worker = Worker(tmp_path, redis.url)
    worker.environment["DATABASE_URL"] = server.url
    manage(worker.environment, "migrate", "--verbosity", "0")
    worker.start(1, "--beat", "--schedule", str(tmp_path / "beat"), queue="monitoring")
    try:
        sampled(worker)
        server.stop(remove=False)
        time.sleep(3)  # Beat looks for changes of its schedule every few seconds.
        server.start()
        sampled(worker, datetime.now(UTC))
    finally:
        worker.stop()
