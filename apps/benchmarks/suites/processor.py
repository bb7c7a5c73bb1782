"""What a leased check costs the process that asks: the quietest figure there is of our code.

It makes no trip, is timed in processor time (what others of the machine take does not count), and a
sample is the quickest of many turns of half a millisecond, one of which is undisturbed. With six
other processes busy on two cores it moved by 1 % from run to run, where the time of a check that
makes a trip moved by 20. It sees nothing of Redis.
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


@benchmark(
    "check-processor",
    suite="limiter",
    metric="processor time per check",
    unit="us",
    direction=Direction.LOWER,
    parameters={"limits": 1, "algorithm": "fixed_window", "lease": LEASE},
    sets=("quick", "full"),
)
def processor(run: Run) -> Samples:
    with ExitStack() as stack, rounds.quiet_collector():
        check = one_identity(run, stack, Algorithm.FIXED_WINDOW, lease=LEASE)(ours.quotas(1))
        subjects = cycle(identities(FEW))

        def turn_us() -> float:
            whom = list(islice(subjects, TURN))
            begun = time.thread_time()
            for identity in whom:
                check(identity)
            return (time.thread_time() - begun) / TURN * 1e6

        # The first round is the warm-up.
        quickest = [min(turn_us() for _ in range(TURNS)) for _ in range(1 + run.rounds)]
    run.client.flushall()
    return Samples({OURS: tuple(quickest[1:])})
