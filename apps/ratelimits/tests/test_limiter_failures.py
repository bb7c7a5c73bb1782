"""A limiter whose Redis is away, silent, forbidden or holds strangers' keys."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest
import redis

from apps.ratelimits.policy.rules import Algorithm, FailurePolicy
from apps.ratelimits.storage import packing
from apps.ratelimits.storage.limiter import Target

from .limiters import A, B, away, by_status, limiter, make_limiter, rule

__all__ = ["limiter"]


class SlowProxy:
    """Passes commands to Redis and answers too late, as a slow network does."""

    def __init__(self, port: int) -> None:
        self.upstream = port
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.swallow = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            upstream = socket.create_connection(("127.0.0.1", self.upstream))
            threading.Thread(target=self._pump, args=(client, upstream, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(upstream, client, True), daemon=True).start()

    def _pump(self, source, sink, reply) -> None:
        with source, sink:
            try:
                while data := source.recv(65536):
                    if not (reply and self.swallow.is_set()):
                        sink.sendall(data)
            except OSError:
                return


def test_a_check_whose_reply_never_came_is_charged_once(each_redis):
    direct = make_limiter(each_redis.url)
    direct.client.flushdb()
    proxy = SlowProxy(each_redis.port)
    slow = make_limiter(f"redis://127.0.0.1:{proxy.port}/0", redis_timeout_ms=50)
    target = Target(rule(quota=10), A)
    slow.check([target])
    proxy.swallow.set()
    started = time.perf_counter()
    assert slow.check([target]).verdicts[0].degraded
    assert time.perf_counter() - started < 0.25
    assert slow.redis.breaker.failed_total == 1
    assert direct.peek([target]).remaining == 8
    proxy.server.close()
    slow.client.close()
    direct.client.close()


def test_without_redis_each_limit_follows_its_policy():
    limiter = away()
    allow = rule(quota=1, on_failure=FailurePolicy.ALLOW)
    deny = rule(quota=1, on_failure=FailurePolicy.DENY)
    local = rule(quota=2, on_failure=FailurePolicy.LOCAL)
    assert [limiter.check([Target(allow, A)]).allowed for _ in range(3)] == [True] * 3
    refused = limiter.check([Target(deny, A)])
    assert (refused.allowed, refused.unavailable) == (False, True)
    assert [limiter.check([Target(local, A)]).allowed for _ in range(3)] == [True, True, False]


def test_without_redis_the_quota_is_shared_among_processes():
    limiter = away(local_processes=4)
    local = rule(quota=8)
    assert sum(limiter.check([Target(local, A)]).allowed for _ in range(9)) == 2


def test_without_redis_slots_are_still_released():
    limiter = away()
    target = Target(rule(Algorithm.CONCURRENCY, quota=1), A)
    held = limiter.check([target]).held
    assert not limiter.check([target]).allowed
    limiter.release(held)
    assert limiter.check([target]).allowed


def test_without_redis_a_charge_is_given_back_where_it_was_taken():
    limiter = away()
    target = Target(by_status(rule(quota=1)), A)
    decision = limiter.check([target])
    assert not limiter.check([target]).allowed
    assert limiter.refund(decision.charges) == 1
    assert limiter.check([target]).allowed


def test_without_redis_a_denial_costs_the_same():
    limiter = away()
    target = Target(rule(quota=1, window_us=20_000, block_us=10_000_000), A)
    while limiter.check([target]).allowed:
        pass
    time.sleep(0.05)
    assert limiter.check([target]).retry_after_us > 9_000_000


def test_an_open_breaker_does_not_ask():
    limiter = away(breaker_failures=2, breaker_open_ms=60_000)
    for _ in range(5):
        limiter.check([Target(rule(), A)])
    assert limiter.redis.breaker.failed_total == 2


def test_a_mistake_in_a_script_surfaces(limiter):
    with pytest.raises(redis.ResponseError, match="arithmetic on a nil"):
        limiter.redis.ask(packing.command("EVAL", "return nil + 1", 0))
    assert limiter.failures.total == limiter.redis.breaker.in_a_row == 0


def test_a_strangers_key_fails_for_one_identity_alone(limiter):
    limiter.client.rpush(limiter.keys.bucket(A), "not a bucket")
    for _ in range(9):
        assert limiter.check([Target(rule(quota=9), A)]).verdicts[0].degraded
    assert not limiter.check([Target(rule(quota=9), A)]).allowed
    assert not limiter.check([Target(rule(quota=9), B)]).verdicts[0].degraded
    assert limiter.failures.by_kind == {"wrong_key": 10}


async def test_a_slot_that_came_too_late_for_who_was_cancelled_is_given_back(limiter):
    target = Target(rule(Algorithm.CONCURRENCY, quota=1), A)
    assert (await limiter.acheck([target])).allowed  # Connected, and the script is known.
    limiter.client.flushdb()
    asked = asyncio.create_task(limiter.acheck([target]))
    while not limiter.client.exists(limiter.keys.sidecar(target.rule, A)):
        await asyncio.sleep(0)
        if asked.done():
            break
        asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    async with asyncio.timeout(5):
        while limiter.client.zcard(limiter.keys.sidecar(target.rule, A)):
            await asyncio.sleep(0.01)
    await limiter.aclose()


@pytest.mark.parametrize("rights", ["-evalsha -eval", "-@all"])
def test_a_command_that_an_acl_forbids_is_left_to_the_policy(limiter, rights):
    target = Target(rule(quota=1, on_failure=FailurePolicy.DENY), A)
    limiter.check([target])
    # Of the default user, which the limiter's connection is: others are not touched.
    admin = limiter.client
    admin.execute_command("ACL", "SETUSER", "other", "on", "nopass", "~*", "+@all")
    options = admin.connection_pool.connection_kwargs
    other = redis.Redis(options["host"], options["port"], username="other", password="any")
    try:
        other.execute_command("ACL", "SETUSER", "default", *rights.split())
        assert limiter.check([target]).unavailable
    finally:
        other.execute_command("ACL", "SETUSER", "default", "+@all")
        other.execute_command("ACL", "DELUSER", "other")
        other.close()
