"""What one request may do, once every limit has spoken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .algorithms import Standing
from .rules import Mode, Rule


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
class Decision:
    """``limit``, ``remaining``, ``retry_after_us`` and ``reset_us`` are those of the limit that
    says most: the one that denied for longest, or the one with the least left.

    ``unavailable``: denied because Redis did not answer and a limit's policy is to deny.
    """

    allowed: bool
    verdicts: tuple[Verdict, ...] = ()
    held: tuple[Held, ...] = ()
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


def decide_all(
    verdicts: Sequence[Verdict],
    *,
    held: tuple[Held, ...] = (),
    unavailable: bool = False,
    blocked: bool = False,
) -> Decision:
    """One decision: allowed when every enforcing limit allows."""
    enforcing = [verdict for verdict in verdicts if verdict.rule.mode is Mode.ENFORCE]
    denied = [verdict for verdict in enforcing if not verdict.allowed]
    if not enforcing:
        return Decision(True, tuple(verdicts), held)
    if denied:
        worst = max(denied, key=lambda verdict: verdict.standing.retry_after_us)
    else:
        worst = min(enforcing, key=lambda v: v.standing.remaining / v.rule.rate.quota)
    return Decision(
        allowed=not denied,
        verdicts=tuple(verdicts),
        held=held,
        unavailable=unavailable,
        blocked=blocked,
        limit=worst.rule.rate.quota,
        remaining=worst.standing.remaining,
        retry_after_us=worst.standing.retry_after_us,
        reset_us=worst.standing.reset_us,
    )


ALLOWED = Decision(True)
