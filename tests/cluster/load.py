"""The load on a cluster: threads that check people's limits, and every answer with its time.

*People* are identities with a quota in a window that outlasts the run, so that what was counted can
be compared with what was allowed. Some are checked alone and some in pairs that live on different
nodes, where one call goes to each.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from apps.ratelimits.policy.identity import digest
from apps.ratelimits.policy.rules import Algorithm, FailurePolicy, Rate, Rule
from apps.ratelimits.storage.cluster import slot_of
from apps.ratelimits.storage.limiter import RateLimiter, Target
from tests.clusters import ClusterProcesses
from tests.servers import RedisProcess

QUOTA = 400
OF_A_PAIR = 300
"""Of the second of a pair, so that it is the one that denies."""
ALONE_PER_NODE = 12
PAIRS = 6
MONTH_US = 30 * 86_400_000_000
THREADS = 6
CHECKS_PER_S = 200
"""Of one thread."""


class Person(NamedTuple):
    digest: str
    slot: int
    rule: Rule

    @property
    def target(self) -> Target:
        return Target(self.rule, self.digest)


People = tuple[Person, ...]
"""One who is checked alone, or a pair."""


class Answer(NamedTuple):
    """``charged``: of each person, whether a node charged it; ``by_policy``: whether it was for
    the failure policy to decide. ``error`` would have been a 5xx."""

    whom: People
    sent_s: float
    received_s: float
    allowed: bool
    charged: tuple[bool, ...]
    denied: tuple[bool, ...]
    by_policy: tuple[bool, ...]
    error: str


_numbers = itertools.count()


def everybody(cluster: ClusterProcesses) -> list[People]:
    """As many on each node, of each failure policy."""
    nodes = cluster.primaries()
    policies = itertools.cycle(FailurePolicy)
    alone = [(_somebody(cluster, n, next(policies)),) for n in nodes for _ in range(ALONE_PER_NODE)]
    pairs = []
    for number in range(PAIRS):
        first, second = nodes[number % len(nodes)], nodes[(number + 1) % len(nodes)]
        policy = next(policies)
        pairs.append(
            (
                _somebody(cluster, first, policy),
                _somebody(cluster, second, policy, number=2, quota=OF_A_PAIR),
            )
        )
    return [*alone, *pairs]


def _somebody(
    cluster: ClusterProcesses,
    node: RedisProcess,
    policy: FailurePolicy,
    *,
    number: int = 1,
    quota: int = QUOTA,
) -> Person:
    rate = Rate(Algorithm.FIXED_WINDOW, quota, MONTH_US, burst=quota)
    rule = Rule(id=number, name=f"limit-{number}", rate=rate, on_failure=policy)
    while True:
        who = digest(b"key", str(next(_numbers)))
        if cluster.owner_of(slot_of(who)) is node:
            return Person(who, slot_of(who), rule)


def ask(limiter: RateLimiter, whom: People) -> Answer:
    sent_s = time.monotonic()
    no = (False,) * len(whom)
    try:
        decision = limiter.check([person.target for person in whom])
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return Answer(whom, sent_s, time.monotonic(), False, no, no, no, text)
    received_s = time.monotonic()
    said = {verdict.rule.id: verdict for verdict in decision.verdicts}
    counted = [v if (v := said.get(p.rule.id)) and not v.degraded else None for p in whom]
    # What memory denies at once names only who is denied.
    silent = decision.allowed or decision.unavailable
    by_policy = tuple(
        v is None and (silent or p.rule.id in said) for v, p in zip(counted, whom, strict=True)
    )
    asked_for = any(p.rule.on_failure is FailurePolicy.DENY for p in whom)
    error = "denied as unavailable" if decision.unavailable and not asked_for else ""
    for person, verdict in zip(whom, counted, strict=True):
        if verdict and not 0 <= verdict.standing.remaining <= person.rule.rate.quota:
            error = f"{verdict.standing.remaining} of {person.rule.rate.quota} left"
    return Answer(
        whom,
        sent_s,
        received_s,
        decision.allowed,
        tuple(decision.allowed and verdict is not None for verdict in counted),
        tuple(verdict is not None and not verdict.allowed for verdict in counted),
        by_policy,
        error,
    )


class Load:
    """``start`` returns once every thread has had an answer; ``stop`` returns all of them."""

    def __init__(self, limiter: RateLimiter, people: Sequence[People]) -> None:
        self._limiter = limiter
        self._people = people
        self._ends = threading.Event()
        self._answers: list[list[Answer]] = [[] for _ in range(THREADS)]
        self._threads = [
            threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(THREADS)
        ]

    def start(self) -> Load:
        for thread in self._threads:
            thread.start()
        while not all(self._answers):
            time.sleep(0.01)
        return self

    def stop(self) -> list[Answer]:
        self._ends.set()
        for thread in self._threads:
            thread.join()
        return sorted(
            (answer for each in self._answers for answer in each), key=lambda a: a.received_s
        )

    def _run(self, number: int) -> None:
        """Each thread asks for everybody, beginning with another."""
        people = itertools.cycle(self._people)
        for _ in range(number * len(self._people) // THREADS):
            next(people)
        due_s = time.monotonic()
        while not self._ends.is_set():
            self._answers[number].append(ask(self._limiter, next(people)))
            due_s = max(due_s + 1 / CHECKS_PER_S, time.monotonic() - 0.05)
            time.sleep(max(0.0, due_s - time.monotonic()))


def use_up(limiter: RateLimiter, people: Sequence[People]) -> list[Answer]:
    """Ask for everybody until they are denied, to see how much was left of each quota."""
    answers = []
    for whom in people:
        for _ in range(2 * QUOTA):
            answers.append(ask(limiter, whom))
            if any(answers[-1].denied):
                break
    return answers
