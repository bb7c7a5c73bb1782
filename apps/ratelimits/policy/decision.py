"""What one request may do, once every limit has spoken."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from .algorithms import Standing, State, refund, standing
from .rules import Algorithm, Mode, Rule


class Verdict(NamedTuple):
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


class Limits(Protocol):
    """The limits of a check, as a storage asked for them."""

    @property
    def rules(self) -> Sequence[Rule]: ...

    def read(self, reply: Any) -> Sequence[int]:
        """Allowed, the time, us, and of each rule: ok (1, 0, or until when it is blocked, us) and
        the state's a, b and c."""
        ...


class Decision:
    """Whether a request may go on, and what each limit said.

    ``unavailable``: denied because Redis did not answer and a limit's policy is to deny.
    ``blocked``: denied by an override. ``passed``: limits that said nothing, since Redis did not
    answer and their policy is to let pass. A reply is read into verdicts when somebody asks
    for them: most requests are answered by ``allowed`` alone.
    """

    __slots__ = (
        "_said",
        "_verdicts",
        "allowed",
        "blocked",
        "charges",
        "held",
        "passed",
        "unavailable",
    )

    def __init__(
        self,
        allowed: bool,
        verdicts: tuple[Verdict, ...] = (),
        *,
        held: tuple[Held, ...] = (),
        charges: tuple[Charge, ...] = (),
        unavailable: bool = False,
        blocked: bool = False,
        passed: tuple[Rule, ...] = (),
    ) -> None:
        self.allowed = allowed
        self.held = held
        self.charges = charges
        self.unavailable = unavailable
        self.blocked = blocked
        self.passed = passed
        self._verdicts: tuple[Verdict, ...] | None = verdicts
        self._said: tuple[Limits, Any, int] | None = None

    @classmethod
    def from_reply(
        cls, allowed: bool, limits: Limits, reply: Any, *, later_us: int = 0
    ) -> Decision:
        """What a storage's reply says of ``limits``; ``later_us`` after it was given."""
        decision = cls.__new__(cls)
        decision.allowed = allowed
        decision.held = decision.charges = decision.passed = ()
        decision.unavailable = decision.blocked = False
        decision._verdicts = None
        decision._said = (limits, reply, later_us)
        return decision

    @property
    def all_allowed(self) -> bool:
        """Whether the reply's form alone says that every limit did, shadow limits too."""
        said = self._said
        if said is None or not self.allowed:
            return False
        reply = said[1]
        of = reply.__class__
        # From the script's quick part, of one bucket or several, or of a lease.
        return of is bytes or of is tuple or reply[0].__class__ is bytes

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        if self._verdicts is None:
            self._verdicts = self._read()
        return self._verdicts

    def _read(self) -> tuple[Verdict, ...]:
        assert self._said is not None  # noqa: S101  (told to mypy, not asked of the caller)
        limits, reply, later_us = self._said
        numbers = limits.read(reply)
        now_us, at, verdicts = numbers[1] + later_us, 2, []
        for rule in limits.rules:
            ok, a, b, c = numbers[at : at + 4]
            at += 4
            verdicts.append(Verdict(rule, ok == 1, standing(rule.rate, ok, a, b, c, now_us)))
        return tuple(verdicts)

    @property
    def saying(self) -> Verdict | None:
        """The enforcing limit that says most: the one that denied for longest, or the one with
        the least left."""
        enforcing = [v for v in self.verdicts if v.rule.mode is Mode.ENFORCE]
        denied = [verdict for verdict in enforcing if not verdict.allowed]
        if denied:
            return max(denied, key=lambda verdict: verdict.standing.retry_after_us)
        return min(enforcing, key=lambda v: v.standing.remaining / v.rule.rate.quota, default=None)

    @property
    def limit(self) -> int | None:
        """The quota of ``saying``, units."""
        return self.saying.rule.rate.quota if self.saying else None

    @property
    def remaining(self) -> int | None:
        return self.saying.standing.remaining if self.saying else None

    @property
    def retry_after_us(self) -> int:
        return self.saying.standing.retry_after_us if self.saying else 0

    @property
    def reset_us(self) -> int:
        return self.saying.standing.reset_us if self.saying else 0

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
            v._replace(standing=_standing_without(given[v.rule.id])) if v.rule.id in given else v
            for v in self.verdicts
        ]
        return decide_all(verdicts, held=self.held)


def _standing_without(charge: Charge) -> Standing:
    rate = charge.rule.rate
    if rate.algorithm in (Algorithm.SLIDING_LOG, Algorithm.CONCURRENCY):
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
    passed: tuple[Rule, ...] = (),
) -> Decision:
    """One decision: allowed when every enforcing limit allows."""
    return Decision(
        all(v.allowed for v in verdicts if v.rule.mode is Mode.ENFORCE),
        tuple(verdicts),
        held=held,
        charges=charges,
        unavailable=unavailable,
        blocked=blocked,
        passed=passed,
    )


class _Whole(Decision):
    """Of parts, whose verdicts are read when somebody asks for them."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[Decision]) -> None:
        super().__init__(all(part.allowed for part in parts))
        self._parts = parts
        self._verdicts = None
        self.unavailable = any(part.unavailable for part in parts)
        self.passed = tuple(rule for part in parts for rule in part.passed)
        self.held = tuple(held for part in parts for held in part.held)
        self.charges = tuple(charge for part in parts for charge in part.charges)

    def _read(self) -> tuple[Verdict, ...]:
        return tuple(verdict for part in self._parts for verdict in part.verdicts)


def together(parts: Sequence[Decision]) -> Decision:
    """One decision of those on parts of a request: allowed where all of them allow."""
    return _Whole(parts)


def joined(decisions: Sequence[Decision]) -> Decision:
    """Of one request that was decided several times: the tightest limit is said first."""
    verdicts = [verdict for decision in decisions for verdict in decision.verdicts]
    verdicts.sort(key=lambda v: (v.allowed, v.standing.remaining / v.rule.rate.quota))
    return decide_all(verdicts)


ALLOWED = Decision(True)
