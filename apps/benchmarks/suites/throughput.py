"""Requests per second of the limiter: by algorithm and number of limits, and by threads."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from itertools import cycle

from apps.ratelimits.policy.rules import Algorithm

from .. import rounds
from ..records import Direction
from ..registry import Run, Samples, benchmark
from . import ours
from .race import WrongAnswer, identities

LIMITS = (1, 3, 10)
ALGORITHMS = (
    Algorithm.TOKEN_BUCKET,
    Algorithm.FIXED_WINDOW,
    Algorithm.SLIDING_WINDOW,
    Algorithm.SLIDING_LOG,
)
LOG_QUOTA = 1_000
"""Ten times it is the most that an exact log takes; no run uses it up."""
KEYS = (100, 10_000, 100_000)
THREADS = (1, 2, 4, 8, 16)
SLOT_S = 0.3


def per_second(taken: dict[str, tuple[float, ...]]) -> Samples:
    """Of microseconds each."""
    return Samples({name: tuple(1e6 / us for us in values) for name, values in taken.items()})


@benchmark(
    "checks-per-second",
    suite="limiter",
    metric="checks per second",
    unit="requests/s",
    direction=Direction.HIGHER,
    parameters={"identities": 200},
    sets=("quick", "full"),
)
def checks_per_second(run: Run) -> Samples:
    """Of one thread, one identity's limits a check."""
    run.client.flushall()
    with ExitStack() as stack:
        contestants = []
        for algorithm in ALGORITHMS:
            least = LOG_QUOTA if algorithm is Algorithm.SLIDING_LOG else ours.PLENTY
            for limits in LIMITS:
                rules = ours.rules(algorithm, ours.quotas(limits, least=least))
                check = ours.on_one_identity(stack.enter_context(ours.limiter(run, rules)))
                name = f"{algorithm}, {limits}"
                # Another's bucket would hold records of limits that are no more.
                subjects = [f"{name} {who}" for who in identities()]
                contestants.append(rounds.Contestant(name, check, subjects))

        def still_allowed(contestant: rounds.Contestant) -> None:
            if not contestant.call(contestant.subjects[0]):
                raise WrongAnswer(f"{contestant.name}: denied while timed")

        taken = rounds.measure(contestants, run.rounds, between=still_allowed)
    run.client.flushall()
    return per_second(taken)


@benchmark(
    "scaling-keys",
    suite="limiter",
    metric="time per check",
    unit="us",
    direction=Direction.LOWER,
    parameters={"limits": 3, "algorithm": "token_bucket"},
    sets=("analysis",),
)
def scaling_keys(run: Run) -> Samples:
    """With so many identities in Redis, each asked about in turn."""
    run.client.flushall()
    with ExitStack() as stack:
        rules = ours.rules(Algorithm.TOKEN_BUCKET, ours.quotas(3))
        check = ours.on_one_identity(stack.enter_context(ours.limiter(run, rules)))
        contestants = [
            rounds.Contestant(f"{number:,} keys", check, [f"{number}-{n}" for n in range(number)])
            for number in KEYS
        ]
        taken = rounds.measure(contestants, run.rounds)
    run.client.flushall()
    return Samples(taken)


@benchmark(
    "scaling-threads",
    suite="limiter",
    metric="checks per second",
    unit="requests/s",
    direction=Direction.HIGHER,
    parameters={"limits": 3, "algorithm": "token_bucket"},
    sets=("analysis",),
)
def scaling_threads(run: Run) -> Samples:
    """Of all threads together, on one limiter."""
    run.client.flushall()
    taken: dict[str, list[float]] = {}
    with ExitStack() as stack:
        rules = ours.rules(Algorithm.TOKEN_BUCKET, ours.quotas(3))
        check = ours.on_one_identity(stack.enter_context(ours.limiter(run, rules)))
        for turn in range(-1, run.rounds):
            for number in THREADS if turn % 2 else reversed(THREADS):
                found = together(check, number, SLOT_S)
                if turn >= 0:  # The first is the warm-up.
                    taken.setdefault(f"{number} threads", []).append(found)
    run.client.flushall()
    return Samples({name: tuple(values) for name, values in taken.items()})


def together(call: ours.Check, threads: int, seconds: float) -> float:
    """Calls per second of so many threads. An error of one of them is raised here."""
    begin = threading.Barrier(threads + 1)
    ended = threading.Event()
    counts = [0] * threads
    errors: list[Exception] = []

    def work(place: int) -> None:
        subjects = cycle(identities(20))
        number = 0
        try:
            begin.wait()
            while not ended.is_set():
                call(next(subjects))
                number += 1
        except Exception as error:
            errors.append(error)
        counts[place] = number

    workers = [threading.Thread(target=work, args=(place,)) for place in range(threads)]
    for worker in workers:
        worker.start()
    begin.wait()
    started = time.perf_counter()
    ended.wait(seconds)
    ended.set()
    for worker in workers:
        worker.join()
    took_s = time.perf_counter() - started
    if errors:
        raise errors[0]
    return sum(counts) / took_s
