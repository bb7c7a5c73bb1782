"""What a process counts of its own work, and how it comes to Redis."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import replace

import pytest

from apps.ratelimits.policy.decision import ALLOWED
from apps.ratelimits.policy.rules import Algorithm, Counts, FailurePolicy, Mode
from apps.ratelimits.storage import tally as module
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.tally import DOUBT_S, Tally
from apps.ratelimits.storage.usage import LimitUsage, Usage, UsageStore, decode
from tests.proxies import Proxy
from tests.servers import RedisProcess

from .limiters import A, B, away, make_limiter, rule

KEYS = Keys("iota:")


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Kept:
    """A store in memory. While ``broken`` it raises, before or ``after`` it has kept a batch."""

    def __init__(self):
        self.batches: dict[tuple[str, int], dict[str, int]] = {}
        self.broken = ""
        self.calls = 0

    def add(self, process, batch, counted):
        self.calls += 1
        if self.broken != "before":
            self.batches.setdefault((process, batch), dict(counted))
        if self.broken:
            raise Unavailable(self.broken)
        return True

    def read(self) -> Usage:
        totals: dict[str, int] = {"since": 1}
        for counted in self.batches.values():
            for name, number in counted.items():
                totals[name] = totals.get(name, 0) + number
        return decode({name: str(number) for name, number in totals.items()})


def counted(tally) -> Usage:
    kept = Kept()
    tally.flush(kept, now=True)
    return kept.read()


@pytest.fixture
def limiter(each_redis):
    made = make_limiter(each_redis.url)
    made.client.flushdb()
    yield made
    made.close()


def check(limiter, tally, targets, took_us=120):
    limits, whom = limiter._pack(targets)
    decision = limiter.check_limits(limits, whom)
    tally.checked(limits, decision, took_us * 1000)
    return decision


def test_each_verdict_of_each_limit_is_counted(limiter):
    tally = Tally()
    limits = [rule(quota=3, number=1), rule(quota=1, number=2, mode=Mode.SHADOW)]
    for _ in range(5):
        check(limiter, tally, [Target(one, A) for one in limits])
    read = counted(tally)
    assert read.limits == {1: LimitUsage(3, 2), 2: LimitUsage(allowed=1, would_deny=4)}
    assert (read.allowed, read.denied, read.degraded) == (3, 2, 0)
    assert (sum(read.checks), read.checks[2], read.checks_sum_us) == (5, 5, 5 * 120)


def test_the_time_of_a_check_is_each_of_its_limits(limiter):
    tally = Tally()
    one, two = rule(quota=3, number=1), rule(quota=1, number=2, mode=Mode.SHADOW)
    for took_us in (100, 200, 300, 400):  # The last is denied by one, all but the first by two.
        check(limiter, tally, [Target(one, A), Target(two, A)], took_us)
    check(limiter, tally, [Target(rule(number=3), B)], 50)
    read = counted(tally)
    assert {number: own.sum_us for number, own in read.limits.items()} == {
        1: 1_000,
        2: 1_000,
        3: 50,
    }
    assert (read.limits[1].checks, read.limits[1].mean_us) == (4, 250.0)
    assert (read.limits[2].checks, read.limits[2].mean_us) == (4, 250.0)
    assert read.checks_sum_us == 1_050
    assert LimitUsage().mean_us is None


@pytest.mark.parametrize("algorithm", Algorithm)
def test_every_algorithm_and_way_of_counting(limiter, algorithm):
    tally = Tally()
    one = rule(algorithm, 2, number=1)
    two = replace(one, id=2)
    if algorithm is not Algorithm.CONCURRENCY:
        two = replace(two, counts=Counts.STATUS, statuses=((200, 299),))
    for limit in (one, two):
        for _ in range(3):
            check(limiter, tally, [Target(limit, B if limit is one else A)])
    assert counted(tally).limits == {1: LimitUsage(2, 1), 2: LimitUsage(2, 1)}


def test_denials_from_memory_and_leases_are_checks_as_well(limiter):
    tally = Tally()
    leased = rule(quota=50, number=3, lease=10, window_us=86_400_000_000)
    for _ in range(60):
        check(limiter, tally, [Target(leased, A)])
    assert limiter.denials.known
    read = counted(tally)
    assert read.limits == {3: LimitUsage(50, 10)}
    assert (sum(read.checks), read.allowed, read.denied) == (60, 50, 10)


def test_limits_of_several_identities(limiter):
    tally = Tally()
    for _ in range(4):
        check(limiter, tally, [Target(rule(quota=2), A), Target(rule(quota=9, number=2), B)])
    assert counted(tally).limits == {1: LimitUsage(2, 2), 2: LimitUsage(4)}


def test_limits_of_several_identities_on_a_cluster(cluster):
    limiter, tally = make_limiter(cluster.url, redis_timeout_ms=2_000), Tally()
    one, two = rule(quota=2, number=81), rule(quota=9, number=82)
    targets = [
        Target(one, limiter.digests.of(("a", "usage"))),
        Target(two, limiter.digests.of(("b", "usage"))),
    ]
    for _ in range(4):
        check(limiter, tally, targets)
    read = counted(tally)
    # What is known to be denied is not asked of the other identity's limits.
    assert read.limits[81] == LimitUsage(2, 2)
    assert (read.allowed, read.denied) == (2, 2)
    limiter.close()


def test_the_async_path_says_the_same(limiter):
    tally = Tally()

    async def checks():
        limits, whom = limiter._pack([Target(rule(quota=3), A)])
        for _ in range(5):
            tally.checked(limits, await limiter.acheck_limits(limits, whom), 1_000)
        await limiter.aclose()

    asyncio.run(checks())
    assert counted(tally).limits == {1: LimitUsage(3, 2)}


def test_what_a_failure_policy_decided_is_told_apart():
    limiter, tally = away(), Tally()
    for policy, number in (
        (FailurePolicy.ALLOW, 1),
        (FailurePolicy.DENY, 2),
        (FailurePolicy.LOCAL, 3),
    ):
        for _ in range(3):
            check(limiter, tally, [Target(rule(quota=2, number=number, on_failure=policy), A)])
    shadow = rule(number=4, mode=Mode.SHADOW)
    check(limiter, tally, [Target(shadow, A)])
    read = counted(tally)
    assert read.limits == {
        1: LimitUsage(allowed=3, degraded=3),
        2: LimitUsage(denied=3, degraded=3),
        3: LimitUsage(allowed=2, denied=1, degraded=3),
    }
    assert (read.allowed, read.denied, read.degraded) == (6, 4, 9)


def test_limits_that_pass_beside_one_that_counts_locally():
    limiter, tally = away(), Tally()
    passes = rule(number=1, on_failure=FailurePolicy.ALLOW)
    local = rule(quota=1, number=2, on_failure=FailurePolicy.LOCAL)
    for _ in range(2):
        check(limiter, tally, [Target(passes, A), Target(local, A)])
    assert counted(tally).limits == {
        1: LimitUsage(allowed=2, degraded=2),
        2: LimitUsage(allowed=1, denied=1, degraded=2),
    }


def test_threads_lose_nothing_of_each_others_while_it_is_gathered(limiter):
    tally, stop = Tally(), threading.Event()
    limits, whom = limiter._pack([Target(rule(quota=100_000), A)])
    allowed = limiter.check_limits(limits, whom)
    denied = limiter.check([Target(rule(quota=1, number=2, cost=1), B)]) and limiter.check(
        [Target(rule(quota=1, number=2), B)]
    )
    assert allowed.all_allowed
    assert not denied.allowed

    def gather():
        while not stop.is_set():
            tally.gather()
            assert tally.in_flight >= 0

    def work():
        for turn in range(5_000):
            tally.began()
            tally.checked(limits, allowed, 1_000)
            tally.checked(limits, denied, 1_000)
            tally.ended(turn % 10 == 0)

    gathering = threading.Thread(target=gather)
    gathering.start()
    workers = [threading.Thread(target=work) for _ in range(8)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    stop.set()
    gathering.join()
    read = counted(tally)
    assert (read.requests, read.errors) == (40_000, 4_000)
    assert (read.allowed, read.denied, sum(read.checks)) == (40_000, 40_000, 80_000)
    assert read.limits == {1: LimitUsage(40_000), 2: LimitUsage(denied=40_000)}
    assert tally.in_flight == 0


def test_requests_in_flight():
    tally = Tally()
    assert tally.in_flight == 0
    for _ in range(3):
        tally.began()
    assert [tally.in_flight, tally.in_flight] == [3, 3]
    tally.ended(False)
    assert tally.in_flight == 2
    tally.gather()
    assert tally.in_flight == 2


def test_a_request_without_limits_to_be_had_is_denied_and_no_check():
    tally = Tally()
    tally.refused()
    read = counted(tally)
    assert (read.denied, read.degraded, sum(read.checks)) == (1, 1, 0)


def test_it_is_sent_once_a_second_and_not_where_nothing_happened():
    clock = Clock()
    tally, kept = Tally(clock_s=clock), Kept()
    for _ in range(4):
        tally.ended(False)
        tally.flush(kept)
        clock.now_s += 0.25
    assert kept.calls == 1
    tally.flush(kept)
    assert (kept.calls, kept.read().requests) == (2, 4)
    clock.now_s += 1
    assert not tally.flush(kept)
    assert kept.calls == 2


@pytest.mark.parametrize("broken", ["before", "after"])
def test_while_redis_is_away_it_is_kept_and_sent_once(broken):
    clock = Clock()
    tally, kept = Tally(clock_s=clock), Kept()
    kept.broken = broken
    for _ in range(5):
        tally.ended(False)
        clock.now_s += 1
        with pytest.raises(Unavailable):
            tally.flush(kept)
    kept.broken = ""
    clock.now_s += 1
    tally.flush(kept)
    assert kept.read().requests == 5


def test_where_nobody_knows_any_more_whether_it_came_it_is_not_sent_again():
    clock = Clock()
    tally, kept = Tally(clock_s=clock), Kept()
    kept.broken = "after"
    tally.ended(False)
    with pytest.raises(Unavailable):
        tally.flush(kept)
    tally.ended(False)
    tally.ended(False)
    # Redis has forgotten which batch of this process came last.
    kept.broken, kept.batches = "", {}
    clock.now_s += DOUBT_S
    tally.flush(kept)
    assert kept.read().requests == 2


def test_what_is_kept_is_bounded_by_the_number_of_limits(limiter):
    clock = Clock()
    tally, kept = Tally(clock_s=clock), Kept()
    kept.broken = "before"
    limits, whom = limiter._pack([Target(rule(quota=100_000), A)])
    decision = limiter.check_limits(limits, whom)
    for _ in range(100):
        for _ in range(100):
            tally.checked(limits, decision, 1_000)
        clock.now_s += 1
        with pytest.raises(Unavailable):
            tally.flush(kept)
    assert len(tally._counted) < 50
    assert not tally._said


def test_where_nobody_looks_the_oldest_are_lost(monkeypatch, limiter):
    monkeypatch.setattr(module, "MOST_WAITING", 100)
    tally = Tally()
    limits, whom = limiter._pack([Target(rule(), A)])
    decision = limiter.check_limits(limits, whom)
    for _ in range(150):
        tally.checked(limits, decision, 1_000)
    assert counted(tally).allowed == 100
    # Cut in the midst of a request, its time is left; what came whole stays whole.
    for _ in range(100):
        tally.checked(limits, decision, 1_000)
    tally._said.append(5_000)
    read = counted(tally)
    assert (read.allowed, read.checks_sum_us) == (101, 105)
    assert (read.limits[1].allowed, read.limits[1].sum_us) == (99, 99)


def test_a_batch_whose_reply_was_lost_counts_once(each_redis):
    proxy = Proxy(each_redis.port)
    limiter = make_limiter(proxy.url, redis_timeout_ms=200)
    store, tally = UsageStore(limiter.client, KEYS), Tally()
    with each_redis.client() as client:
        client.flushdb()
        tally.ended(False)
        tally.flush(store, now=True)
        tally.ended(True)
        # The command goes in, its answer is swallowed.
        with each_redis.client() as direct:
            _lose_the_next_answer(proxy)
            with pytest.raises(Unavailable):
                tally.flush(store, now=True)
            assert UsageStore(direct, KEYS).read().requests == 2
        tally.ended(False)
        tally.flush(store, now=True)
        read = store.read()
    assert (read.requests, read.errors) == (3, 1)
    limiter.close()
    proxy.close()


def _lose_the_next_answer(proxy):
    """Frozen are the sockets to the server, whose answers are read and dropped."""
    proxy._frozen.update(proxy._servers)


def test_redis_away_for_a_while_and_back_with_nothing():
    server = RedisProcess().start()
    limiter = make_limiter(server.url)
    store, tally = UsageStore(limiter.client, KEYS), Tally()
    tally.ended(False)
    tally.flush(store, now=True)
    first = store.read()
    server.kill()
    for _ in range(3):
        tally.ended(False)
        with pytest.raises(Unavailable):
            tally.flush(store, now=True)
    server.start()
    tally.flush(store, now=True)
    read = store.read()
    assert read.requests == 3
    assert read.since_s != first.since_s
    assert read.since(first).requests == 3
    limiter.close()
    server.stop()


def test_a_forked_child_begins_at_nothing(each_redis):
    tally = Tally()
    tally.began()
    tally.ended(False)
    tally.ended(False)
    limiter = make_limiter(each_redis.url)
    limiter.client.flushdb()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            tally.ended(True)
            child = make_limiter(each_redis.url)
            tally.flush(UsageStore(child.client, KEYS), now=True)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    store = UsageStore(limiter.client, KEYS)
    assert (store.read().requests, store.read().errors) == (1, 1)
    tally.flush(store, now=True)
    assert (store.read().requests, store.read().errors) == (3, 1)
    limiter.close()


def test_waits_for_a_connection_are_counted(each_redis):
    limiter = make_limiter(each_redis.url, redis_max_connections=1)
    tally = Tally(lambda: [node.connections for node in limiter.redis.nodes])
    connections = limiter.redis.connections
    target = Target(rule(quota=1_000), A)
    limiter.check([target])
    assert counted(tally).pool_waits == 1  # Until the first was opened.
    held = connections._free.pop()
    assert connections.in_use == 1
    asked = threading.Thread(target=limiter.check, args=([target],))
    asked.start()
    while not connections._waiting:
        pass
    connections._give_back(held[0])
    asked.join()
    assert connections.in_use == 0
    assert counted(tally).pool_waits == 1
    limiter.check([target])
    assert counted(tally).pool_waits == 0
    limiter.close()


def test_nothing_asked_is_nothing_counted():
    tally = Tally()
    tally.checked(None, ALLOWED, 1)
    assert counted(tally).limits == {}
