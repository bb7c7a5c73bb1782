"""The sync transport over each way that leads to a server: TCP, a password, a socket, TLS."""

from __future__ import annotations

import asyncio

import pytest

from apps.ratelimits.policy.rules import Algorithm
from apps.ratelimits.storage.limiter import RateLimiter, Target
from tests.servers import (
    flavours,
    on_unix_socket,
    over_tls,
    plain,
    with_password,
)

from .limiters import A, make_limiter, rule

WAYS = [
    pytest.param(make, flavour, id=f"{make.__name__}-{flavour}")
    for make in (plain, with_password, on_unix_socket, over_tls)
    for flavour in flavours()
    if make is not over_tls or flavour == "redis"
]


@pytest.mark.skipif("redis" not in flavours(), reason="no redis-server, which alone speaks TLS")
def test_tls_is_among_the_ways():
    assert over_tls in [way.values[0] for way in WAYS]


@pytest.mark.parametrize(("way", "flavour"), WAYS)
def test_a_limiter_decides_whatever_way_leads_to_the_server(way, flavour):
    server = way(flavour).start()
    limiter = make_limiter(server.url, redis_timeout_ms=2000)
    try:
        with server.client() as observer:
            before = observer.info("stats")["total_connections_received"]
            target = Target(rule(Algorithm.TOKEN_BUCKET, quota=2), A)
            decisions = [limiter.check([target]) for _ in range(3)]
            decisions.append(asyncio.run(once(limiter, target)))
            assert [d.allowed for d in decisions] == [True, True, False, False]
            assert not any(verdict.degraded for d in decisions for verdict in d.verdicts)
            # The sync one, the loop's, and the one that the client would have.
            assert observer.info("stats")["total_connections_received"] - before <= 2
    finally:
        limiter.close()
        server.stop()


async def once(limiter: RateLimiter, target: Target):
    limiter.forget(None)
    return await limiter.acheck([target])
