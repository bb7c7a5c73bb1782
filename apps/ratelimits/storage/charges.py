"""What a check has taken, as its reply says, and what of it is given back. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..policy.algorithms import State
from ..policy.decision import Charge, Decision, Held, together
from ..policy.rules import Algorithm, Counts
from .keys import Keys
from .packing import PackedLimits


def charged(
    limits: PackedLimits, whom: Sequence[str], reply: Any, *, every: bool = False
) -> list[Charge]:
    """The charges of a reply that wait for the response, or ``every`` one."""
    numbers = limits.read(reply)
    now_us, charges = numbers[1], []
    for at, rule, place in zip(range(2, len(numbers), 4), limits.rules, limits.places, strict=True):
        ok, a, b, c = numbers[at : at + 4]
        if ok == 1 and (every or rule.counts is not Counts.EVERY):
            state = State(a, b, c, ((now_us, rule.rate.cost),))
            charges.append(Charge(rule, whom[place], state, now_us))
    return charges


def held(
    keys: Keys, limits: PackedLimits, whom: Sequence[str], member: str, reply: Sequence[int]
) -> list[Held]:
    """The slots that an allowed request holds."""
    return [
        Held(keys.sidecar(rule, whom[place]) or "", member)
        for ok, rule, place in zip(reply[2::4], limits.rules, limits.places, strict=True)
        if ok == 1 and rule.rate.algorithm is Algorithm.CONCURRENCY
    ]


def undone(
    parts: Sequence[Decision], taken: Sequence[Sequence[Charge]]
) -> tuple[Decision, list[Charge], list[Held]]:
    """The decision of parts of which one denies, each with all that it charged; and what those that
    said yes have to give back. Their verdicts are as if they had charged nothing."""
    decisions: list[Decision] = []
    refunds: list[Charge] = []
    slots: list[Held] = []
    for decision, charges in zip(parts, taken, strict=True):
        if decision.allowed:
            slots += decision.held
            refunds += [c for c in charges if c.rule.rate.algorithm is not Algorithm.CONCURRENCY]
            decision = decision.refunded(charges)
            decision.held = ()
        decisions.append(decision)
    return together(decisions), refunds, slots
