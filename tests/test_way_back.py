"""Locked out: the ways back, with real servers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.databases import migrate
from tests.proxies import Proxy
from tests.servers import RedisProcess
from tests.sites import SiteProcess, environment, manage

WITHIN_S = 1.0
# Nobody gets in: one request an hour of everyone together, wherever they go.
CLOSED = """
from apps.ratelimits.models import RateLimit
RateLimit.objects.create(name="closed", quota=1, window_unit=3600, counted_by="everyone")
RateLimit.objects.create(name="slow", quota=1, window_unit=3600, mode="shadow")
"""


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    server = RedisProcess().start()
    yield server
    server.stop()


@pytest.fixture
def locked(redis: RedisProcess, tmp_path: Path) -> dict[str, str]:
    variables = environment(tmp_path, redis.url)
    migrate(variables)
    manage(variables, "shell", "--verbosity", "0", "-c", CLOSED)
    return variables


@pytest.mark.parametrize("interface", ["wsgi", "asginl"])
def test_disable_frees_running_servers_within_a_second(locked, tmp_path, interface):
    sites = [SiteProcess(tmp_path, locked, interface=interface) for _ in range(2)]
    try:
        for site in sites:
            site.start()
            while requests.get(f"{site.url}/admin/login/", timeout=5).status_code != 429:
                pass
        said = manage(locked, "ratelimit", "disable", "--all")
        done = time.monotonic()
        assert "2 limits switched off; in force in every process within 1 s." in said
        for site in sites:
            while requests.get(f"{site.url}/admin/login/", timeout=5).status_code != 200:
                assert time.monotonic() - done < WITHIN_S + 1  # The request's own time.
        # And back again, by the line that it printed.
        (restore,) = re.findall(r"manage.py (ratelimit enable .*)", said)
        manage(locked, *restore.split())
        done = time.monotonic()
        for site in sites:
            while requests.get(f"{site.url}/admin/login/", timeout=5).status_code != 429:
                assert time.monotonic() - done < WITHIN_S + 1
        assert "closed  enforce  1 per hour" in manage(locked, "ratelimit", "list")
    finally:
        for site in sites:
            site.stop()


def test_disable_tells_by_its_exit_code_whether_it_was_heard(locked, redis):
    assert "No limit is called typo" in manage(locked, "ratelimit", "disable", "typo", code=1)
    manage(locked, "ratelimit", "disable", code=2)
    redis.kill()
    said = manage(locked, "ratelimit", "disable", "--all", code=1)
    assert "2 limits switched off in the database." in said
    assert "restart the site with IOTA_DISABLED=1" in said
    redis.start()
    assert "(2 already)" in manage(locked, "ratelimit", "disable", "--all")


@pytest.mark.parametrize("interface", ["wsgi", "asginl"])
def test_a_disabled_site_answers_without_limits_and_without_redis(
    locked, redis, tmp_path, interface
):
    proxy = Proxy(redis.port)
    variables = {**locked, "REDIS_URL": proxy.url, "IOTA_DISABLED": "1"}
    site = SiteProcess(tmp_path, variables, interface=interface).start()
    try:
        for _ in range(3):
            for path in ("/api/test", "/admin/login/", "/", "/healthz", "/readyz"):
                answer = requests.get(f"{site.url}{path}", timeout=5)
                assert answer.status_code == 200
                assert "RateLimit" not in answer.headers
        assert "nobody is counted" in requests.get(f"{site.url}/", timeout=5).text
        assert requests.get(f"{site.url}/readyz", timeout=5).json()["limits"] == "disabled"
        assert proxy.accepted == 0
    finally:
        site.stop()
