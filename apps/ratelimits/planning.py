"""What is to be asked for one request: each limit as it is for this client. No I/O.

The engine asks for one limit after the other, and only for those that vary: most are the same for
every client.
"""

from __future__ import annotations

from dataclasses import dataclass

from .policy.algorithms import Standing
from .policy.decision import Decision, Verdict, decide_all
from .policy.facts import RequestFacts, UserFacts
from .policy.matching import CompiledRule
from .policy.overriding import override_for
from .policy.rules import OverrideAction, Rule
from .storage.packing import PackedLimits

BLOCKED_RETRY_US = 3_600_000_000
"""What a client hears that is blocked without an end."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be asked for one request, of which identities. ``blocked`` names the limit that
    an override closes, and for how long, us. ``own``: where a limit over its identity budget counts
    all new clients as one, the digest that each limit would have counted; else empty."""

    limits: PackedLimits | None = None
    whom: tuple[str, ...] = ()
    blocked: tuple[Rule, int] | None = None
    own: tuple[str, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self.limits.rules if self.limits else ()


def as_overridden(
    compiled: CompiledRule, facts: RequestFacts, user: UserFacts, now_us: int
) -> tuple[Rule, int] | None:
    """The rule for this client and, where it is blocked, for how long (us); None: unlimited."""
    found = override_for(compiled, facts, user, now_us)
    if found is None:
        return compiled.rule, 0
    match found.override.action:
        case OverrideAction.UNLIMITED:
            return None
        case OverrideAction.BLOCKED:
            until_us = found.override.until_us
            return found.rule, BLOCKED_RETRY_US if until_us is None else until_us - now_us
        case OverrideAction.QUOTA:
            return found.rule, 0


def blocked(rule: Rule, wait_us: int) -> Decision:
    """The decision for a client whom an override of this limit blocks for so long."""
    return decide_all([Verdict(rule, False, Standing(0, wait_us, wait_us, wait_us))], blocked=True)
