"""What is to be asked for one request: each limit as it is for this client. No I/O.

The engine asks for one limit after the other, and only for those that vary: most are the same for
every client.
"""

from __future__ import annotations

from dataclasses import dataclass

from .policy.algorithms import Standing
from .policy.client_ip import in_networks
from .policy.decision import Decision, Verdict, decide_all
from .policy.facts import RequestFacts, UserFacts
from .policy.matching import CompiledOverride, CompiledRule
from .policy.rules import OverrideAction, Rule
from .storage.packing import PackedLimits

BLOCKED_RETRY_US = 3_600_000_000
"""What a client hears that is blocked without an end."""

_PARTICULARITY = {"user": 4, "key": 3, "network": 2, "group": 1}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be asked for one request, of which identities. ``blocked`` names the limit that
    an override closes, and for how long, us."""

    limits: PackedLimits | None = None
    whom: tuple[str, ...] = ()
    blocked: tuple[Rule, int] | None = None

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self.limits.rules if self.limits else ()


def as_overridden(
    compiled: CompiledRule, facts: RequestFacts, user: UserFacts, now_us: int
) -> tuple[Rule, int] | None:
    """The rule for this client and, where it is blocked, for how long (us); None: unlimited.

    The most particular override wins: user, then key, network and group.
    """
    found = None
    rank = 0
    for candidate in compiled.overrides:
        own = candidate.override
        if own.until_us is not None and own.until_us <= now_us:
            continue
        if _PARTICULARITY[own.target] > rank and _is_about(candidate, facts, user):
            found, rank = candidate, _PARTICULARITY[own.target]
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


def _is_about(compiled: CompiledOverride, facts: RequestFacts, user: UserFacts) -> bool:
    override = compiled.override
    match override.target:
        case "user":
            return override.value == user.pk
        case "key":
            return tuple(override.value.split(":", 1)) in user.keys
        case "group":
            return override.value in user.groups
        case _:
            return in_networks(facts.address, compiled.networks)


def blocked(rule: Rule, wait_us: int) -> Decision:
    """The decision for a client whom an override of this limit blocks for so long."""
    return decide_all([Verdict(rule, False, Standing(0, wait_us, wait_us, wait_us))], blocked=True)
