"""Many checks at once on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import redis.asyncio

from apps.ratelimits.policy.rules import Algorithm
from apps.ratelimits.storage.topology import Topology

from .. import rounds
from ..records import Direction
from ..registry import Run, Samples, benchmark
from ..targets import FLOOR, OURS, Sense, Target
from . import ours
from .race import SMALL_QUOTA, WrongAnswer, identities

IN_FLIGHT = 64

Ask = Callable[[str], Awaitable[Any]]


@benchmark(
    "in-flight",
    suite="limiter",
    metric="time per check",
    unit="us",
    direction=Direction.LOWER,
    parameters={"limits": 1, "algorithm": "token_bucket", "in_flight": IN_FLIGHT},
    targets=(
        Target("64 in flight, beside redis.asyncio's own EVALSHA", FLOOR, Sense.AT_MOST, 0.25),
    ),
)
def in_flight(run: Run) -> Samples:
    run.client.flushall()
    with ExitStack() as stack:
        limiter = stack.enter_context(ours.limiter(run))
        runner = stack.enter_context(asyncio.Runner())
        # Not Runner.run, which makes a context and looks at signals each time.
        until_done = runner.get_loop().run_until_complete
        topology = Topology.parse(
            run.server.url, timeout_ms=ours.TIMEOUT_MS, max_connections=IN_FLIGHT
        )
        client = redis.asyncio.Redis.from_pool(topology.async_pool())

        def asking(quota: int) -> Ask:
            limits = limiter.limits(ours.rules(Algorithm.TOKEN_BUCKET, [quota]), [0])

            async def ask(identity: str) -> bool:
                who = limiter.digests.of(("name", identity))
                return (await limiter.acheck_limits(limits, (who,))).allowed

            return ask

        few = asking(SMALL_QUOTA)
        allowed = [until_done(few("verified")) for _ in range(SMALL_QUOTA + 1)]
        if allowed != [True] * SMALL_QUOTA + [False]:
            raise WrongAnswer(f"{OURS}: a quota of {SMALL_QUOTA} did not hold: {allowed}")
        sha = until_done(client.script_load("return 1"))
        subjects = [identities(IN_FLIGHT)]
        contesting: dict[str, Ask] = {
            OURS: asking(ours.PLENTY),
            FLOOR: partial(client.evalsha, sha, 1),
        }
        contestants = [
            rounds.Contestant(name, partial(_at_once, until_done, ask), subjects, IN_FLIGHT)
            for name, ask in contesting.items()
        ]
        taken = rounds.measure(contestants, run.rounds)
        until_done(limiter.aclose())
        until_done(client.aclose())
    run.client.flushall()
    return Samples(taken)


def _at_once(until_done: Callable[[Any], object], ask: Ask, whom: list[str]) -> None:
    async def gathered() -> None:
        await asyncio.gather(*[ask(identity) for identity in whom])

    until_done(gathered())
