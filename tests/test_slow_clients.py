"""Clients that read slowly, hang up or fall silent, and the concurrency slots that they hold."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
import redis as redis_py

from tests.servers import RedisProcess
from tests.sites import SiteProcess, manage, running

SLOTS = 2
ENDLESS = 100_000
LIMIT = f"""
from apps.ratelimits.models import RateLimit
RateLimit.objects.all().delete()
RateLimit.objects.create(
    name="slots", algorithm="concurrency", quota={SLOTS}, window_amount=%d, window_unit=1,
    path_kind="prefix", path="/stream/",
)
"""


class Site:
    def __init__(self, process: SiteProcess, redis: RedisProcess, interface: str) -> None:
        self.process, self.redis, self.interface = process, redis, interface

    def lease(self, seconds: int) -> None:
        manage(self.process.environment, "shell", "--verbosity", "0", "-c", LIMIT % seconds)
        time.sleep(1)  # An edit is in force within a second.

    def ask(self, count: int = ENDLESS) -> tuple[int, socket.socket]:
        """The status, and the connection with the rest of the answer still to be read."""
        connection = socket.create_connection(("127.0.0.1", self.process.port), 10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        path = f"/stream/{self.interface}/{count}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = b""
        while b"\r\n" not in head:
            part = connection.recv(64)
            assert part, "no answer"
            head += part
        return int(head.split()[1]), connection

    def held(self) -> int:
        """Slots that are in use, by Redis' own word."""
        with redis_py.Redis.from_url(self.redis.url) as client:
            now_s, now_us = client.time()
            now = now_s * 1_000_000 + now_us
            return sum(client.zcount(key, now, "+inf") for key in client.scan_iter("iota:c:*"))

    def is_free_within(self, seconds: float) -> float:
        """How long it took until a request was let in."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            status, connection = self.ask(count=1)
            connection.close()
            if status == 200:
                return time.monotonic() - began
            time.sleep(0.05)
        raise AssertionError(f"no slot became free within {seconds} s")


@pytest.fixture(scope="module", params=["wsgi", "asginl"])
def site(request, tmp_path_factory) -> Iterator[Site]:
    options = {"interface": request.param, "settings": "tests.site_settings"}
    with running(tmp_path_factory.mktemp("site"), **options) as (process, redis):
        yield Site(process.start(), redis, request.param)
        assert "Traceback" not in process.said()


def test_who_hangs_up_in_the_middle_frees_the_slot(site):
    site.lease(3_600)
    busy = [site.ask() for _ in range(SLOTS)]
    assert [status for status, _ in busy] == [200] * SLOTS
    status, refused = site.ask()
    assert status == 429
    refused.close()
    busy[0][1].close()
    site.is_free_within(10)
    busy[1][1].close()
    site.is_free_within(10)
    deadline = time.monotonic() + 10
    while site.held():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_who_resets_the_connection_frees_the_slot(site):
    site.lease(3_600)
    for _ in range(3):
        busy = [site.ask()[1] for _ in range(SLOTS)]
        for connection in busy:
            no_linger = bytes([1, 0, 0, 0, 0, 0, 0, 0])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
            connection.close()
        site.is_free_within(10)


def test_who_falls_silent_holds_the_slot_no_longer_than_its_lease(site):
    """The connection stays, and nothing is read: the server cannot tell it from a slow one."""
    lease_s = 3
    site.lease(lease_s)
    silent = [site.ask() for _ in range(SLOTS)]
    assert [status for status, _ in silent] == [200] * SLOTS
    status, refused = site.ask()
    assert status == 429
    refused.close()
    assert site.is_free_within(lease_s + 5) <= lease_s + 2
    for _, connection in silent:
        connection.close()


def test_who_reads_slowly_frees_the_slot_at_the_end(site):
    site.lease(3_600)
    status, connection = site.ask(count=5)
    assert status == 200
    connection.settimeout(10)
    total = 0
    while total < 5 * 65_536:
        assert site.held() <= 1
        part = connection.recv(16_384)
        assert part
        total += len(part)
        time.sleep(0.01)
    deadline = time.monotonic() + 5
    while site.held():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    connection.close()
