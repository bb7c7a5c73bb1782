"""What a leased check costs the process that asks: the quietest figure there is of our code.

It makes no trip, and is timed in processor time: what others of the machine take does not count. A
sample is the quickest of many turns of half a millisecond, one of which is undisturbed, as a part
of the quickest of a fixed loop's turns in between: a host that lowers its clock slows both. With
six other processes busy on two cores it moved by 1 % from run to run, where the time of a check
that makes a trip moved by 20. It sees nothing of Redis.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import cycle, islice

from apps.ratelimits.policy.rules import Algorithm

from .. import rounds
from ..records import Direction
from ..registry import Run, Samples, benchmark
from ..targets import OURS
from . import ours
from .checks import one_identity
from .race import identities
from .remembered import FEW, LEASE

TURNS = 30
TURN = 400
"""Checks in a turn: long beside the clock's own cost of half a microsecond."""
LOOPS = 130
"""As long as a turn of checks."""


@benchmark(
    "check-processor",
    suite="limiter",
    metric="processor time per check, a fixed loop being 1",
    unit="x",
    direction=Direction.LOWER,
    parameters={"limits": 1, "algorithm": "fixed_window", "lease": LEASE},
    sets=("quick", "full"),
)
def processor(run: Run) -> Samples:
    with ExitStack() as stack, rounds.quiet_collector():
        check = one_identity(run, stack, Algorithm.FIXED_WINDOW, lease=LEASE)(ours.quotas(1))
        subjects = cycle(identities(FEW))

        def check_s() -> float:
            whom = list(islice(subjects, TURN))
            begun = time.thread_time()
            for identity in whom:
                check(identity)
            return (time.thread_time() - begun) / TURN

        def loop_s() -> float:
            begun = time.thread_time()
            for _ in range(LOOPS):
                fixed_loop()
            return (time.thread_time() - begun) / LOOPS

        taken = []
        for _ in range(1 + run.rounds):
            turns = [(check_s(), loop_s()) for _ in range(TURNS)]
            taken.append(min(turn[0] for turn in turns) / min(turn[1] for turn in turns))
    run.client.flushall()
    return Samples({OURS: tuple(taken[1:])})  # The first round is the warm-up.


def fixed_loop() -> int:
    """Of what a check is made of: calls, dictionaries, small objects. Never to be changed."""
    found: dict[int, tuple[int, str]] = {}
    for number in range(30):
        found[number] = (number * 7, str(number))
    return len(found)
