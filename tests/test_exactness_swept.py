"""Processes check while limits are deleted and re-started, and sweeps go over the same buckets
without a pause: every verdict is still the oracle's."""

from __future__ import annotations

import multiprocessing
import random
import time

import pytest

from apps.ratelimits.policy import algorithms
from apps.ratelimits.policy.identity import DIGEST_CHARS
from apps.ratelimits.policy.rules import Algorithm, Rate, Rule
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.living import Known
from apps.ratelimits.storage.sweep import Sweeper
from apps.ratelimits.tests.limiters import make_limiter

PROCESSES = 6
GENERATIONS = 6
SECONDS = 3.0
QUOTA = 150
WINDOW_US = 1_000_000
CHECKED = [
    Algorithm.FIXED_WINDOW,
    Algorithm.TOKEN_BUCKET,
    Algorithm.SLIDING_LOG,
    Algorithm.CONCURRENCY,
]
WHO = {number: f"{algorithm}".ljust(DIGEST_CHARS, "-") for number, algorithm in enumerate(CHECKED)}


def stays(number: int, generation: int) -> Rule:
    """A limit for good, re-started with every second generation."""
    rate = Rate(CHECKED[number], QUOTA, WINDOW_US, QUOTA)
    return Rule(id=number + 1, name=f"stays-{number}", rate=rate, epoch=generation // 2)


def goes(number: int, generation: int) -> Rule:
    """A limit of one generation, on the same identity, which never says no."""
    rate = Rate(CHECKED[number], 10_000, 60_000_000, 10_000)
    return Rule(id=100 + 10 * generation + number, name=f"goes-{generation}-{number}", rate=rate)


def known(oldest: int, newest: int) -> Known:
    """What lives while processes are in these generations."""
    rules = [stays(number, oldest) for number in WHO]
    rules += [goes(n, generation) for generation in range(oldest, newest + 1) for n in WHO]
    return Known(
        oldest + 1,
        {rule.id: rule.epoch for rule in rules},
        {rule.id: rule.rate.window_us for rule in rules},
        highest=10_000,
    )


def check(url: str, place: int, generations, barrier, results) -> None:
    """Check all limits in turn, all processes in the same generation."""
    limiter = make_limiter(url, redis_timeout_ms=5_000)
    traced = []
    for generation in range(GENERATIONS):
        barrier.wait(60)
        generations[place] = generation
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            for number, who in WHO.items():
                rule = stays(number, generation)
                targets = [Target(rule, who), Target(goes(number, generation), who)]
                reply, decision = limiter.traced_check(targets)
                traced.append((number, rule.epoch, reply, [held.member for held in decision.held]))
            time.sleep(0.002)
    limiter.close()
    results.put(traced)


@pytest.fixture(scope="module")
def run():
    from tests.servers import RedisProcess

    server = RedisProcess().start()
    context = multiprocessing.get_context("spawn")
    results, generations = context.Queue(), context.Array("i", [-1] * PROCESSES)
    barrier = context.Barrier(PROCESSES)
    arguments = [(server.url, place, generations, barrier, results) for place in range(PROCESSES)]
    workers = [context.Process(target=check, args=each) for each in arguments]
    for worker in workers:
        worker.start()
    traced, done = [], Swept(server.url, generations)
    try:
        while len(traced) < PROCESSES:
            done.sweep()
            if not results.empty():
                traced.append(results.get())
            assert all(worker.exitcode in (None, 0) for worker in workers)
    finally:
        for worker in workers:
            worker.join(60)
        server.stop()
    return [reply for each in traced for reply in each], done


class Swept:
    """Sweeps, one after the other, and what they came to."""

    def __init__(self, url: str, generations) -> None:
        self._limiter = make_limiter(url, redis_timeout_ms=5_000)
        self._generations = generations
        self._last: tuple[tuple[int, int], Known] | None = None
        self._chance = random.Random(7)
        self.runs = self.records = self.keys = self.entries = self.slots = self.bounded = 0

    def _known(self, last: Known | None) -> Known:
        between = min(self._generations), max(self._generations) + 1
        if self._last is None or self._last[0] != between:
            self._last = between, known(max(0, between[0]), max(0, between[1]))
        return self._last[1]

    def sweep(self) -> None:
        client = self._limiter.client
        key = client.randomkey()
        if key and self._chance.random() < 0.3:
            client.persist(key)
        made = Sweeper(
            client, self._limiter.keys, self._known, rate_per_s=10**9, page=10, grace_s=0
        )
        assert made.run()
        assert [place.error for place in made.places] == [""]
        self.runs += 1
        self.records += made.tally.records
        self.keys += made.tally.keys_removed
        self.entries += made.tally.entries
        self.slots += made.tally.abandoned
        self.bounded += made.tally.bounded


def order(traced):
    """By the script's time; within a microsecond, the charges in the order of their states."""
    (allowed, now_us, _, a, b, *_), _ = traced
    return now_us, -allowed, a, b


@pytest.mark.parametrize("number", WHO, ids=[str(algorithm) for algorithm in CHECKED])
def test_every_verdict_is_the_oracles_whatever_is_swept(run, number):
    traces, _ = run
    admitted = denied = 0
    for epoch in range(GENERATIONS // 2):
        state = algorithms.EMPTY
        own = [t for at, of, *t in traces if (at, of) == (number, epoch)]
        for (allowed, now_us, ok, a, b, _, also, *_), members in sorted(own, key=order):
            member = members[0] if members else ""
            rule = stays(number, 0)
            expected, idle, charged = algorithms.decide(rule.rate, state, now_us, member=member)
            state = charged if expected else idle
            assert also == 1
            assert (allowed, ok, a, b) == (expected, expected, state.a, state.b)
            admitted, denied = admitted + allowed, denied + (not allowed)
    assert admitted > 3 * QUOTA
    assert denied > QUOTA


def test_the_sweeps_had_something_to_do(run):
    _, done = run
    assert done.runs > 50
    # Of each generation but the last, the records of three algorithms beside those that live.
    assert done.records >= 3 * (GENERATIONS - 2)
    assert done.keys >= 2 * (GENERATIONS - 2)
    assert done.entries > 10
    assert done.slots > 10
    assert done.bounded > 0
