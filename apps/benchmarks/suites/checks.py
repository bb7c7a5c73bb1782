"""A check beside redis-py's own EVALSHA, and beside the peers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from apps.ratelimits.policy.rules import Algorithm

from ..records import Direction
from ..registry import Run, Samples, benchmark
from ..rounds import Contestant
from ..targets import FASTEST_PEER, FLOOR, OURS, Sense, Target
from . import ours, peers
from .race import Maker, NotInstalled, identities, race

SERVER_LIMITS = (1, 3, 10)
STRANGERS = f"{OURS}, many identities"
MANY = 30_000
"""More than the limiter remembers the digests of."""


def floor(run: Run, stack: ExitStack) -> Contestant:
    """redis-py's own EVALSHA of a script that does nothing, with one key."""
    client = stack.enter_context(ours.client(run))
    sha = client.script_load("return 1")
    return Contestant(FLOOR, partial(client.evalsha, sha, 1), identities())


def one_identity(run: Run, stack: ExitStack, algorithm: Algorithm, lease: int = 0) -> Maker:
    """Our check of all limits on one identity; ``stack`` closes what it made. A ``lease`` is
    no larger than the smallest quota."""

    def make(quotas: Sequence[int]) -> ours.Check:
        rules = ours.rules(algorithm, quotas, lease=min(lease, *quotas))
        return ours.on_one_identity(stack.enter_context(ours.limiter(run, rules)))

    return make


def two_identities(run: Run, stack: ExitStack, algorithm: Algorithm) -> Maker:
    def make(quotas: Sequence[int]) -> ours.Check:
        rules = ours.rules(algorithm, quotas)
        return ours.on_two_identities(stack.enter_context(ours.limiter(run)), rules)

    return make


@benchmark(
    "one-limit",
    suite="limiter",
    metric="time per check",
    unit="us",
    direction=Direction.LOWER,
    parameters={"limits": 1, "identities": 1, "algorithm": "token_bucket"},
    targets=(
        Target("1 limit", FLOOR, Sense.AT_MOST, 0.75),
        Target("1 limit, identities not seen for a while", FLOOR, of=STRANGERS),
    ),
    sets=("quick", "full"),
)
def one_limit(run: Run) -> Samples:
    with ExitStack() as stack:
        maker = one_identity(run, stack, Algorithm.TOKEN_BUCKET)
        strangers = Contestant(STRANGERS, maker(ours.quotas(1)), identities(MANY))
        return race(run, {OURS: maker}, limits=1, beside=[floor(run, stack), strangers])


@benchmark(
    "three-limits",
    suite="limiter",
    metric="time per check",
    unit="us",
    direction=Direction.LOWER,
    parameters={"limits": 3, "identities": 1, "algorithm": "token_bucket"},
    targets=(Target("3 limits on one identity", FLOOR, Sense.AT_MOST, 0.80),),
    sets=("quick", "full"),
)
def three_limits(run: Run) -> Samples:
    with ExitStack() as stack:
        makers = {OURS: one_identity(run, stack, Algorithm.TOKEN_BUCKET)}
        return race(run, makers, limits=3, beside=[floor(run, stack)])


@benchmark(
    "fixed-window",
    suite="limiter",
    metric="time per check",
    unit="us",
    direction=Direction.LOWER,
    parameters={"limits": 1, "identities": 1, "algorithm": "fixed_window"},
    targets=(
        Target("1 limit, as fast as `limits`", peers.LIMITS, Sense.AT_LEAST, 1.7),
        Target("1 limit, as fast as the fastest peer", FASTEST_PEER, Sense.MORE_THAN, 1.0),
    ),
    peers=peers.NAMES,
)
def fixed_window(run: Run) -> Samples:
    with ExitStack() as stack, peers.settings_of_peers(run.server.url):
        makers = {OURS: one_identity(run, stack, Algorithm.FIXED_WINDOW)}
        return race(run, {**makers, **peers.makers(run.server.url)}, limits=1)


@benchmark(
    "ten-limits",
    suite="limiter",
    metric="time per check",
    unit="us",
    direction=Direction.LOWER,
    parameters={"limits": 10, "identities": 2, "algorithm": "token_bucket"},
    targets=(
        Target("10 limits over 2 identities", FLOOR, Sense.AT_MOST, 1.1),
        Target("10 limits, as 10 checks of `limits`", peers.LIMITS, Sense.AT_LEAST, 10),
        Target(
            "10 limits, as fast as 10 checks of the fastest peer", FASTEST_PEER, Sense.AT_LEAST, 7
        ),
        Target("10 limits, as one pipeline of a peer", peers.SMART_BATCH, Sense.AT_LEAST),
    ),
    peers=peers.NAMES,
)
def ten_limits(run: Run) -> Samples:
    with ExitStack() as stack, peers.settings_of_peers(run.server.url):
        makers = {OURS: two_identities(run, stack, Algorithm.TOKEN_BUCKET)}
        makers |= peers.makers(run.server.url)
        makers[peers.SMART_BATCH] = peers.smart_batch
        return race(run, makers, limits=10, beside=[floor(run, stack)])


@benchmark(
    "server-time",
    suite="limiter",
    metric="server time per check",
    unit="us",
    direction=Direction.LOWER,
    parameters={"algorithm": "token_bucket"},
    targets=tuple(
        Target(f"{limits} in the server, beside as many of `limits`", against, of=of)
        for limits in SERVER_LIMITS
        for of, against in [(f"{OURS}, {limits}", f"{peers.LIMITS}, {limits}")]
    ),
)
def server_time(run: Run) -> Samples:
    """As ``INFO commandstats`` has it: usec of evalsha, per check of all the limits."""
    run.client.flushall()
    taken: dict[str, list[float]] = {}
    with ExitStack() as stack:
        ask = one_identity(run, stack, Algorithm.TOKEN_BUCKET)
        checks: dict[str, ours.Check] = {}
        for limits in SERVER_LIMITS:
            checks[f"{OURS}, {limits}"] = ask(ours.quotas(limits))
        absent: dict[str, str] = {}
        for limits in SERVER_LIMITS:
            try:
                maker = peers.makers(run.server.url)[peers.LIMITS]
                checks[f"{peers.LIMITS}, {limits}"] = maker(ours.quotas(limits))
            except NotInstalled as reason:
                absent[f"{peers.LIMITS}, {limits}"] = str(reason)
        subjects = identities()
        for check in checks.values():
            for subject in subjects:
                check(subject)
        for _ in range(run.rounds):
            for name, check in checks.items():
                taken.setdefault(name, []).append(_evalsha_us(run, check, subjects))
    return Samples({name: tuple(values) for name, values in taken.items()}, absent)


def _evalsha_us(run: Run, check: ours.Check, subjects: Sequence[str]) -> float:
    """The server's time of all scripts of one check, us."""
    run.client.config_resetstat()
    for subject in subjects:
        check(subject)
    return float(run.client.info("commandstats")["cmdstat_evalsha"]["usec"]) / len(subjects)
