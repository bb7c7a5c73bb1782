"""What is answered without a trip: denials that are remembered, and leased blocks of a quota."""

from __future__ import annotations

from contextlib import ExitStack

from apps.ratelimits.policy.rules import Algorithm

from ..records import Direction
from ..registry import Run, Samples, benchmark
from ..targets import FASTEST_PEER, OURS, Sense, Target
from . import peers
from .checks import one_identity
from .race import Maker, WrongAnswer, identities, race

LEASE = 100
COUNTED_QUOTA = 250
"""Two leases and a half."""
FEW = 20
"""Identities: one that is hot takes many requests, each from the same few."""


@benchmark(
    "denied",
    suite="limiter",
    metric="time per check",
    unit="us",
    direction=Direction.LOWER,
    parameters={"limits": 1, "algorithm": "fixed_window", "denied": "yes"},
    targets=(
        Target("denied, as fast as the fastest peer denies", FASTEST_PEER, Sense.AT_LEAST, 25),
    ),
    peers=peers.NAMES,
)
def denied(run: Run) -> Samples:
    with ExitStack() as stack, peers.settings_of_peers(run.server.url):
        makers = {OURS: one_identity(run, stack, Algorithm.FIXED_WINDOW)}
        makers |= peers.makers(run.server.url)
        return race(run, makers, limits=1, denied=True, subjects=identities(FEW))


@benchmark(
    "leased",
    suite="limiter",
    metric="time per check",
    unit="us",
    direction=Direction.LOWER,
    parameters={"limits": 1, "algorithm": "fixed_window", "lease": LEASE},
    targets=(
        Target("leased by 100, as fast as the fastest peer", FASTEST_PEER, Sense.AT_LEAST, 20),
    ),
    peers=peers.NAMES,
)
def leased(run: Run) -> Samples:
    with ExitStack() as stack, peers.settings_of_peers(run.server.url):
        maker = one_identity(run, stack, Algorithm.FIXED_WINDOW, lease=LEASE)
        _never_over(maker)
        makers = {OURS: maker}
        makers |= peers.makers(run.server.url)
        return race(run, makers, limits=1, subjects=identities(FEW))


def _never_over(maker: Maker) -> None:
    """Raises WrongAnswer where leases let more through than the quota."""
    check = maker([COUNTED_QUOTA])
    allowed = sum(check("counted") for _ in range(2 * COUNTED_QUOTA))
    if not 0 < allowed <= COUNTED_QUOTA:
        raise WrongAnswer(f"{OURS}, leased: {allowed} allowed of a quota of {COUNTED_QUOTA}")
