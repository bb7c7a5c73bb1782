"""What a check costs the process that asks, as a part of what redis-py's own EVALSHA costs it.

The quietest figure there is of our code. Processor time does not count what others of the machine
take away, and both take turns of a millisecond, so that a slower clock slows both. On a machine
with seven busy neighbours it moved by 5 % from run to run where the time of a check moved by 20.
It does not see the server.
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
from .checks import floor, one_identity
from .race import identities

TURN = 20
"""Checks in a turn: long beside the clock's own cost of half a microsecond."""
TURNS = 20


@benchmark(
    "check-processor",
    suite="limiter",
    metric="processor time, that of EVALSHA being 1",
    unit="x",
    direction=Direction.LOWER,
    parameters={"limits": 1, "identities": 1, "algorithm": "token_bucket"},
    sets=("quick", "full"),
)
def processor(run: Run) -> Samples:
    clock = time.thread_time
    samples = []
    with ExitStack() as stack:
        check = one_identity(run, stack, Algorithm.TOKEN_BUCKET)(ours.quotas(1))
        beside = floor(run, stack).call
        subjects = cycle(identities())
        with rounds.quiet_collector():
            for turn in range(-1, run.rounds):
                check_s = beside_s = 0.0
                for _ in range(TURNS):
                    whom = list(islice(subjects, TURN))
                    begun = clock()
                    for identity in whom:
                        check(identity)
                    between = clock()
                    for identity in whom:
                        beside(identity)
                    check_s += between - begun
                    beside_s += clock() - between
                if turn >= 0:  # The first is the warm-up.
                    samples.append(check_s / beside_s)
    run.client.flushall()
    return Samples({OURS: tuple(samples)})
