"""The failure policies: what decides while Redis does not answer."""

from __future__ import annotations

from ..policy import algorithms
from ..policy.decision import ALLOWED, Decision, Held, Verdict, decide_all
from ..policy.rules import FailurePolicy, Mode
from .failures import Failures
from .local import LocalLimiter
from .packing import PackedLimits, new_member

UNAVAILABLE_RETRY_US = 1_000_000


class Fallback:
    """Deny before local before allow; shadow limits say nothing. Each decision is counted."""

    def __init__(self, local: LocalLimiter, failures: Failures) -> None:
        self._local = local
        self._failures = failures

    def decide(self, limits: PackedLimits, whom: tuple[str, ...], charge: bool) -> Decision:
        enforcing = [
            (rule, whom[place])
            for rule, place in zip(limits.rules, limits.places, strict=True)
            if rule.mode is Mode.ENFORCE
        ]
        denying = [rule for rule, _ in enforcing if rule.on_failure is FailurePolicy.DENY]
        local = [one for one in enforcing if one[0].on_failure is FailurePolicy.LOCAL]
        if charge:
            decides = FailurePolicy.LOCAL if local else FailurePolicy.ALLOW
            self._failures.decided(FailurePolicy.DENY if denying else decides)
        if denying:
            standing = algorithms.Standing(0, UNAVAILABLE_RETRY_US, 0, 0)
            return decide_all(
                [Verdict(rule, False, standing, degraded=True) for rule in denying],
                unavailable=True,
            )
        if not charge:
            return ALLOWED
        passed = tuple(rule for rule, _ in enforcing if rule.on_failure is FailurePolicy.ALLOW)
        if not local:
            return Decision(True, passed=passed)
        member = new_member()
        verdicts, taken = self._local.decide(local, member)
        return decide_all(verdicts, held=(Held("", member),), charges=taken, passed=passed)
