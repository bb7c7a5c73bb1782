"""32 processes on one limit per algorithm: every verdict is the oracle's."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from apps.ratelimits.policy import algorithms
from apps.ratelimits.policy.identity import DIGEST_CHARS
from apps.ratelimits.policy.rules import Algorithm, Rate, Rule
from apps.ratelimits.storage.limiter import RateLimiter, Target
from apps.ratelimits.storage.topology import Topology

PROCESSES = 32
SECONDS = 30.0
QUOTA = 1_000
WINDOW_US = 10_000_000
PAUSE_S = 0.02

RULES = [
    Rule(id=number, name=algorithm.value, rate=Rate(algorithm, QUOTA, WINDOW_US, QUOTA))
    for number, algorithm in enumerate(Algorithm, start=1)
]


def hammer(url: str, until: float, results) -> None:
    """Check every limit in turn until the time is over; send what the scripts replied."""
    config = SimpleNamespace(
        redis_url=url,
        key_prefix="iota:",
        identity_key=b"k" * 32,
        redis_timeout_ms=5_000,
        redis_max_connections=1,
        breaker_failures=1,
        breaker_open_ms=1_000,
        local_processes=1,
    )
    client = Topology.parse(url, timeout_ms=5_000, max_connections=1).client()
    limiter = RateLimiter(config, client)
    replies = []
    while time.time() < until:
        for rule in RULES:
            reply, decision = limiter.traced_check([Target(rule, rule.name.ljust(DIGEST_CHARS))])
            replies.append((rule.id, reply, [held.member for held in decision.held]))
        time.sleep(PAUSE_S)  # Load is what is tested: a pace that the oracle can replay.
    limiter.close()
    results.put(replies)


@pytest.fixture(scope="module")
def traces():
    from tests.servers import RedisProcess

    server = RedisProcess().start()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    # Importing in 32 processes takes a while on two cores.
    until = time.time() + 15 + SECONDS
    workers = [
        context.Process(target=hammer, args=(server.url, until, results)) for _ in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    replies = [reply for _ in workers for reply in results.get(timeout=120)]
    for worker in workers:
        worker.join()
    server.stop()
    assert all(worker.exitcode == 0 for worker in workers)
    return {
        rule: sorted((reply for number, *reply in replies if number == rule.id), key=order)
        for rule in RULES
    }


def order(traced):
    """By the script's time; within a microsecond, the charges in the order of their states."""
    (allowed, now_us, _, a, b, _), _ = traced
    return now_us, -allowed, a, b


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_verdict_is_the_oracles(traces, rule):
    state = algorithms.EMPTY
    assert len(traces[rule]) > 5 * QUOTA
    for (allowed, now_us, ok, a, b, c), members in traces[rule]:
        member = members[0] if members else ""
        expected, idle, charged = algorithms.decide(rule.rate, state, now_us, member=member)
        state = charged if expected else idle
        assert (allowed, ok, a, b, c) == (expected, expected, state.a, state.b, state.c)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_no_window_admits_more_than_was_promised(traces, rule):
    admitted = [reply[1] for reply, _ in traces[rule] if reply[0]]
    most = most_in_a_window(admitted)
    bound = {
        Algorithm.TOKEN_BUCKET: 2 * QUOTA,
        Algorithm.FIXED_WINDOW: 2 * QUOTA,
        Algorithm.SLIDING_WINDOW: 2 * QUOTA,
        Algorithm.SLIDING_LOG: QUOTA,
        Algorithm.CONCURRENCY: QUOTA,
    }[rule.rate.algorithm]
    assert QUOTA <= most <= bound
    if rule.rate.algorithm is Algorithm.SLIDING_LOG:
        assert most == QUOTA


def test_a_fixed_window_admits_exactly_its_quota(traces):
    rule = next(rule for rule in RULES if rule.rate.algorithm is Algorithm.FIXED_WINDOW)
    counts = Counter(reply[1] // WINDOW_US for reply, _ in traces[rule] if reply[0])
    whole = sorted(counts)[1:-1]
    assert len(whole) >= 1
    assert {counts[window] for window in whole} == {QUOTA}


def most_in_a_window(times: list[int]) -> int:
    most = first = 0
    for last, time_us in enumerate(times):
        while times[first] <= time_us - WINDOW_US:
            first += 1
        most = max(most, last - first + 1)
    return most
