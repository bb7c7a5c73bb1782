"""What one request may do, once every limit has spoken."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from .algorithms import Standing, State, refund, standing
from .rules import Algorithm, Mode, Rule


@dataclass(frozen=True, slots=True)
class Verdict:
    """One limit's word. ``degraded``: Redis did not answer and the failure policy did."""

    rule: Rule
    allowed: bool
    standing: Standing
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A concurrency slot that this request occupies until it is released."""

    key: str
    member: str


@dataclass(frozen=True, slots=True)
class Charge:
    """What a limit that counts by response took in advance, named for a refund.

    ``state`` is what the charge left, ``at_us`` the clock's time of it. ``degraded``: it was
    taken in this process, since Redis did not answer.
    """

    rule: Rule
    digest: str
    state: State
    at_us: int
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """``limit``, ``remaining``, ``retry_after_us`` and ``reset_us`` are those of the limit that
    says most: the one that denied for longest, or the one with the least left.

    ``unavailable``: denied because Redis did not answer and a limit's policy is to deny.
    """

    allowed: bool
    verdicts: tuple[Verdict, ...] = ()
    held: tuple[Held, ...] = ()
    charges: tuple[Charge, ...] = ()
    unavailable: bool = False
    blocked: bool = False
    limit: int | None = None
    remaining: int | None = None
    retry_after_us: int = 0
    reset_us: int = 0

    @property
    def violated(self) -> tuple[Rule, ...]:
        """The enforcing limits that said no."""
        return tuple(v.rule for v in self.verdicts if v.rule.mode is Mode.ENFORCE and not v.allowed)

    def uncounted(self, status: int, raised: AbstractSet[str]) -> tuple[Charge, ...]:
        """The charges to give back, now that the response is known."""
        return tuple(
            charge for charge in self.charges if not charge.rule.counts_response(status, raised)
        )

    def refunded(self, charges: Collection[Charge]) -> Decision:
        """As if these had never been charged."""
        given = {charge.rule.id: charge for charge in charges}
        verdicts = [
            replace(v, standing=_standing_without(given[v.rule.id])) if v.rule.id in given else v
            for v in self.verdicts
        ]
        return decide_all(verdicts, held=self.held)


def _standing_without(charge: Charge) -> Standing:
    rate = charge.rule.rate
    if rate.algorithm is Algorithm.SLIDING_LOG:
        # The charge's state names its own entry alone: what remains is known by its sum.
        used = charge.state.a - rate.cost
        left = State(used, charge.state.b if used else 0)
    else:
        left = refund(rate, charge.state, charge.state, rate.cost, now_us=charge.at_us)
    return standing(rate, 1, left.a, left.b, left.c, charge.at_us)


def decide_all(
    verdicts: Sequence[Verdict],
    *,
    held: tuple[Held, ...] = (),
    charges: tuple[Charge, ...] = (),
    unavailable: bool = False,
    blocked: bool = False,
) -> Decision:
    """One decision: allowed when every enforcing limit allows."""
    enforcing = [verdict for verdict in verdicts if verdict.rule.mode is Mode.ENFORCE]
    denied = [verdict for verdict in enforcing if not verdict.allowed]
    if not enforcing:
        return Decision(True, tuple(verdicts), held, charges)
    if denied:
        worst = max(denied, key=lambda verdict: verdict.standing.retry_after_us)
    else:
        worst = min(enforcing, key=lambda v: v.standing.remaining / v.rule.rate.quota)
    return Decision(
        allowed=not denied,
        verdicts=tuple(verdicts),
        held=held,
        charges=charges,
        unavailable=unavailable,
        blocked=blocked,
        limit=worst.rule.rate.quota,
        remaining=worst.standing.remaining,
        retry_after_us=worst.standing.retry_after_us,
        reset_us=worst.standing.reset_us,
    )


ALLOWED = Decision(True)
