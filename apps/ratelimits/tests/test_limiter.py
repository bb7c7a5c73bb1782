"""The scripts against the pure arithmetic, on real servers."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import redis

from apps.ratelimits.policy import algorithms
from apps.ratelimits.policy.identity import DIGEST_CHARS
from apps.ratelimits.policy.rules import Algorithm, Counts, FailurePolicy, Mode, Rate, Rule
from apps.ratelimits.storage import packing
from apps.ratelimits.storage.limiter import RateLimiter, Target
from apps.ratelimits.storage.topology import Topology

WINDOW_US = 200_000
A, B = "a" * DIGEST_CHARS, "b" * DIGEST_CHARS


def config(**changes):
    values = {
        "redis_url": "",
        "key_prefix": "iota:",
        "identity_key": b"k" * 32,
        "redis_timeout_ms": 500,
        "redis_max_connections": 50,
        "breaker_failures": 5,
        "breaker_open_ms": 200,
        "local_processes": 1,
    }
    return SimpleNamespace(**{**values, **changes})


def make_limiter(url: str, **changes) -> RateLimiter:
    settings = config(redis_url=url, **changes)
    topology = Topology.parse(url, timeout_ms=settings.redis_timeout_ms, max_connections=50)
    return RateLimiter(settings, topology.client())


@pytest.fixture
def limiter(each_redis):
    made = make_limiter(each_redis.url)
    made.client.flushdb()
    yield made
    made.client.close()


def rule(algorithm=Algorithm.FIXED_WINDOW, quota=3, window_us=60_000_000, number=1, **changes):
    cost = changes.pop("cost", 1)
    burst = changes.pop("burst", quota)
    denials = {name: changes.pop(name) for name in ("charge_denied", "block_us") if name in changes}
    rate = Rate(algorithm, quota, window_us, burst, cost, **denials)
    return Rule(id=number, name=f"limit-{number}", rate=rate, **changes)


def in_order(targets):
    """As a reply speaks of them: of each bucket in turn, by the limits' ids."""
    targets = list(targets)
    seen = [who for _, who in targets]
    return sorted(targets, key=lambda target: (seen.index(target.digest), target.rule.id))


class Oracle:
    """What the arithmetic says, given the server's times."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, int], algorithms.State] = {}

    def expect(self, targets, now_us, member="m"):
        outcomes = []
        for limit, who in targets:
            state = self.states.get((who, limit.id), algorithms.EMPTY)
            outcomes.append(algorithms.decide(limit.rate, state, now_us, None, member))
        allowed = all(
            ok
            for (limit, _), (ok, _, _) in zip(targets, outcomes, strict=True)
            if limit.mode is Mode.ENFORCE
        )
        reply = [int(allowed), now_us]
        for (limit, who), (ok, idle, counted) in zip(targets, outcomes, strict=True):
            state = counted if allowed or not ok else idle
            self.states[who, limit.id] = state
            reply += [int(ok) or state.blocked_until_us, state.a, state.b, state.c]
        return reply


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("seed", range(3))
def test_a_script_says_what_the_arithmetic_says(limiter, algorithm, seed):
    chance = random.Random(f"{algorithm}{seed}")
    quota = chance.choice([3, 7, 20])
    cost = 1 if algorithm is Algorithm.CONCURRENCY else chance.choice([1, 2])
    burst = chance.choice([cost, quota, 2 * quota])
    limits = [
        rule(algorithm, quota, WINDOW_US, number=1, cost=cost, burst=max(cost, burst)),
        rule(chance.choice(list(Algorithm)), 9, WINDOW_US * 3, number=2),
        rule(Algorithm.TOKEN_BUCKET, 5, WINDOW_US, number=3, mode=Mode.SHADOW),
    ]
    oracle = Oracle()
    for turn in range(150):
        chosen = in_order(
            Target(limit, chance.choice([A, B])) for limit in limits if chance.random() < 0.8
        )
        if not chosen:
            continue
        reply, _ = limiter.traced_check(chosen)
        assert reply == oracle.expect(chosen, reply[1], f"m{turn}")
        if chance.random() < 0.1:
            time.sleep(chance.random() * WINDOW_US / 2e6)


def test_all_limits_are_charged_or_none(limiter):
    wide, narrow = rule(quota=10, number=1), rule(quota=1, number=2)
    targets = [Target(wide, A), Target(narrow, B)]
    assert limiter.check(targets).allowed
    denied = limiter.check(targets)
    assert not denied.allowed
    assert [limit.name for limit in denied.violated] == ["limit-2"]
    assert limiter.peek([Target(wide, A)]).remaining == 9


def test_a_shadow_limit_never_denies(limiter):
    shadow = rule(quota=1, mode=Mode.SHADOW)
    assert [limiter.check([Target(shadow, A)]).allowed for _ in range(3)] == [True] * 3


def test_a_limit_keeps_its_record_beside_a_shorter_one(limiter):
    long, short = rule(quota=5, number=1), rule(quota=5, window_us=1_000_000, number=2)
    limiter.check([Target(long, A)])
    limiter.check([Target(short, A)])
    assert limiter.peek([Target(long, A)]).remaining == 4
    assert 1_000 < limiter.client.pttl(limiter.keys.bucket(A)) <= 60_001


def test_every_key_expires(limiter):
    limits = [rule(algorithm, number=n) for n, algorithm in enumerate(Algorithm)]
    limiter.check([Target(limit, A) for limit in limits])
    ages = {key: limiter.client.pttl(key) for key in limiter.client.scan_iter()}
    assert len(ages) == 3
    assert all(0 < age <= 120_001 for age in ages.values()), ages


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("seed", range(3))
def test_what_a_denial_costs_is_what_the_arithmetic_says(limiter, algorithm, seed):
    chance = random.Random(f"denied{algorithm}{seed}")
    slots = algorithm is Algorithm.CONCURRENCY
    cost = 1 if slots else chance.choice([1, 2])
    quota = chance.choice([2, 5])
    charged = not slots and chance.random() < 0.8
    block_us = chance.choice([0, 20_000, 60_000])
    limits = [
        rule(algorithm, quota, WINDOW_US, cost=cost, charge_denied=charged, block_us=block_us),
        rule(Algorithm.TOKEN_BUCKET, 7, WINDOW_US, number=2, charge_denied=True, cost=2),
        rule(
            Algorithm.SLIDING_LOG, 4, WINDOW_US, number=3, mode=Mode.SHADOW, block_us=10_000, cost=2
        ),
    ]
    oracle = Oracle()
    for turn in range(150):
        chosen = in_order(
            Target(limit, chance.choice([A, B])) for limit in limits if chance.random() < 0.8
        )
        if not chosen:
            continue
        # Whatever a new cost meets that older entries did not have.
        if not slots and chance.random() < 0.3:
            chosen = [t._replace(rule=replace_cost(t.rule, chance.choice([1, 2]))) for t in chosen]
        reply, _ = limiter.traced_check(chosen)
        assert reply == oracle.expect(chosen, reply[1], f"m{turn}")
        if chance.random() < 0.3:
            time.sleep(chance.random() * WINDOW_US / 2e6)


def replace_cost(limit: Rule, cost: int) -> Rule:
    return replace(limit, rate=replace(limit.rate, cost=cost))


def test_a_denied_request_is_free_unless_the_limit_says_otherwise(limiter):
    free = Target(rule(Algorithm.SLIDING_LOG, quota=1, window_us=150_000, number=1), A)
    charged = Target(
        rule(Algorithm.SLIDING_LOG, quota=1, window_us=150_000, number=2, charge_denied=True), A
    )
    assert limiter.check([free, charged]).allowed
    until = time.monotonic() + 0.4
    passed = {"free": 0, "charged": 0}
    while time.monotonic() < until:
        passed["free"] += limiter.check([free]).allowed
        passed["charged"] += limiter.check([charged]).allowed
        time.sleep(0.01)
    assert passed["free"] == 2
    assert passed["charged"] == 0
    time.sleep(0.16)
    assert limiter.check([charged]).allowed


def test_a_block_begins_with_the_first_denial_and_is_not_prolonged(limiter):
    target = Target(rule(quota=1, window_us=50_000, block_us=300_000), A)
    while limiter.check([target]).allowed:
        pass
    began = time.monotonic()
    waits = []
    while not (decision := limiter.check([target])).allowed:
        waits.append(decision.retry_after_us)
        assert decision.remaining == 0
        time.sleep(0.02)
    assert 0.25 < time.monotonic() - began < 0.6
    # At its end the window may still have longer to run.
    of_the_block = [wait for wait in waits if wait > 50_000]
    assert of_the_block == sorted(of_the_block, reverse=True)
    assert limiter.client.pttl(limiter.keys.bucket(A)) <= 301


def test_a_log_that_was_cut_by_hand_is_no_error_where_denials_are_charged(limiter):
    target = Target(rule(Algorithm.SLIDING_LOG, quota=6, cost=3, charge_denied=True), A)
    limiter.check([target])
    limiter.check([target])
    limiter.client.lpop(limiter.keys.sidecar(target.rule, A))
    assert not limiter.check([target]).allowed
    assert not limiter.check([target]).allowed


def charges_of(limiter, *targets):
    decision = limiter.check(targets)
    assert decision.allowed
    return decision.charges


def by_status(limit: Rule) -> Rule:
    return replace(limit, counts=Counts.STATUS, statuses=((400, 499),))


@pytest.mark.parametrize("algorithm", [a for a in Algorithm if a is not Algorithm.CONCURRENCY])
def test_a_refund_gives_back_exactly_one_charge(limiter, algorithm):
    target = Target(by_status(rule(algorithm, quota=5, cost=2)), A)
    charges = charges_of(limiter, target)
    limiter.check([target])
    before = limiter.peek([target]).remaining
    assert limiter.refund(charges) == 1
    assert before == 1
    assert limiter.peek([target]).remaining == 3
    # Its own standing afterwards is told without asking again.
    assert limiter.check([target]).allowed
    decision = limiter.check([Target(target.rule, B)])
    told = decision.refunded(decision.charges)
    limiter.refund(decision.charges)
    assert told.remaining == limiter.peek([Target(target.rule, B)]).remaining == 5


def test_charges_of_several_identities_are_given_back_in_one_call(limiter):
    targets = [
        Target(by_status(rule(algorithm, number=n)), who)
        for n, algorithm in enumerate(Algorithm)
        if algorithm is not Algorithm.CONCURRENCY
        for who in (A, B)
    ]
    charges = charges_of(limiter, *targets)
    assert len(charges) == 8
    calls = limiter.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert limiter.refund(charges) == 8
    stats = limiter.client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == calls + 1
    assert {v.standing.remaining for v in limiter.peek(targets).verdicts} == {3}


async def test_a_refund_on_the_event_loop(limiter):
    target = Target(by_status(rule()), A)
    charges = charges_of(limiter, target)
    assert await limiter.arefund(charges) == 1
    assert limiter.peek([target]).remaining == 3
    await limiter.aclose()


def test_only_a_limit_that_counts_by_response_can_be_refunded(limiter):
    both = [Target(rule(number=1), A), Target(by_status(rule(number=2)), A)]
    assert [charge.rule.id for charge in limiter.check(both).charges] == [2]
    assert limiter.peek(both).charges == ()
    limiter.check(both)
    limiter.check(both)
    assert limiter.check(both).charges == ()


def test_a_late_refund_frees_only_what_has_not_refilled(limiter):
    limit = rule(Algorithm.TOKEN_BUCKET, quota=1, window_us=100_000)
    target = Target(by_status(limit), A)
    first = charges_of(limiter, target)
    time.sleep(0.12)
    second = charges_of(limiter, target)
    assert limiter.refund(first) == 0
    assert limiter.refund(second) == 1
    assert limiter.check([target]).allowed


def test_late_refunds_in_a_row_free_only_what_was_taken(limiter):
    limit = rule(Algorithm.TOKEN_BUCKET, quota=2, window_us=400_000)
    target = Target(by_status(limit), A)
    first = charges_of(limiter, target)
    second = charges_of(limiter, target)
    assert limiter.refund(first) == 1
    assert limiter.check([target]).allowed
    time.sleep(0.21)  # The second charge, first in the queue now, has refilled.
    assert limiter.check([target]).allowed
    assert limiter.refund(second) == 0
    assert not limiter.check([target]).allowed


def test_a_token_buckets_charge_is_not_given_back_after_an_hour(limiter):
    target = Target(by_status(rule(Algorithm.TOKEN_BUCKET)), A)
    (charge,) = charges_of(limiter, target)
    assert limiter.refund([replace(charge, at_us=charge.at_us - 3_600_000_000)]) == 0
    assert limiter.refund([charge]) == 1


def test_what_a_token_bucket_gave_back_is_known_for_an_hour(limiter):
    target = Target(by_status(rule(Algorithm.TOKEN_BUCKET, quota=1, window_us=100_000)), A)
    limiter.refund(charges_of(limiter, target))
    limiter.check([target])
    assert 3_500_000 < limiter.client.pttl(limiter.keys.bucket(A)) <= 3_600_001


def test_a_refund_of_another_window_frees_nothing(limiter):
    target = Target(by_status(rule(quota=5)), A)
    (charge,) = charges_of(limiter, target)
    before = replace(charge.state, a=charge.state.a - 60_000_000)
    assert limiter.refund([replace(charge, state=before)]) == 0
    assert limiter.peek([target]).remaining == 4


def test_a_new_epoch_starts_afresh(limiter):
    limiter.check([Target(rule(quota=1), A)])
    assert limiter.check([Target(rule(quota=1, epoch=1), A)]).allowed


def test_reset_forgets_an_identity_and_no_other(limiter):
    limits = [rule(Algorithm.SLIDING_LOG, quota=1, number=1), rule(quota=1, number=2)]
    for who in (A, B):
        limiter.check([Target(limit, who) for limit in limits])
    assert limiter.reset([A], limits) == 2
    assert limiter.check([Target(limit, A) for limit in limits]).allowed
    assert not limiter.check([Target(limit, B) for limit in limits]).allowed


def test_slots_are_freed_by_release_and_by_their_lease(limiter):
    target = Target(rule(Algorithm.CONCURRENCY, quota=2, window_us=150_000), A)
    first, second = limiter.acquire(target), limiter.acquire(target)
    assert first.allowed
    assert second.allowed
    assert not limiter.acquire(target).allowed
    limiter.release(first.held)
    limiter.release(first.held)
    third = limiter.acquire(target)
    assert third.allowed
    denied = limiter.acquire(target)
    assert 0 < denied.retry_after_us <= 150_000
    time.sleep(0.16)
    assert limiter.acquire(target).allowed


def test_scripts_are_loaded_again_after_they_were_lost(limiter):
    limiter.client.script_flush()
    assert limiter.check([Target(rule(), A)]).remaining == 2


def test_the_guides_example(limiter):
    decision = limiter.check_rate_limit("test-user")
    assert (decision.allowed, decision.limit, decision.remaining) == (True, 100, 99)
    assert decision.retry_after_us == 0
    assert 0 < decision.reset_us <= 600_000
    assert decision.violated == ()


async def test_the_async_path_counts_on_the_same_bucket(limiter):
    target = Target(rule(quota=2), A)
    limiter.check([target])
    assert (await limiter.acheck([target])).remaining == 0
    assert not (await limiter.acheck([target])).allowed
    await limiter.aclose()


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


def away(**changes) -> RateLimiter:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return make_limiter(f"redis://127.0.0.1:{port}/0", **changes)


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
