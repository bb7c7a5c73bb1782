"""What is noted of a request that limits have denied. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from .denied_names import names_of
from .planning import Plan
from .policy.decision import Decision
from .policy.facts import RequestFacts, UserFacts
from .policy.identity import identity_parts
from .policy.rules import Mode, Rule
from .storage.denied import Names
from .storage.denied_notes import MOST_COUNTED, MOST_PATH_CHARS, Noted

MAX_METHOD_CHARS = 20
DigestOf = Callable[[tuple[str, ...]], str]


def noted(
    plan: Plan,
    decision: Decision,
    facts: RequestFacts,
    user: UserFacts,
    digest_of: DigestOf,
    *,
    with_names: bool,
) -> Noted:
    """``with_names``: of those whom the limits count, for as long as denials are kept."""
    denied = [
        verdict.rule
        for verdict in decision.verdicts
        if not verdict.allowed and verdict.rule.mode is Mode.ENFORCE
    ]
    whom = plan.whom
    if plan.limits is None:
        whom = tuple(digest_of(identity_parts(rule, facts, user)) for rule in denied)
    denied_first = denied[:MOST_COUNTED]
    names = _names(plan, denied_first, facts, user, digest_of) if with_names else ()
    return Noted(
        time.time(),
        plan.limits,
        whom,
        tuple([rule.id for rule in denied_first]),
        facts.method[:MAX_METHOD_CHARS],
        facts.path[:MOST_PATH_CHARS],
        facts.address,
        "override" if decision.blocked else "redis" if decision.unavailable else "limit",
        tuple(names),
    )


def _names(
    plan: Plan, denied: list[Rule], facts: RequestFacts, user: UserFacts, digest_of: DigestOf
) -> Iterator[tuple[int, Names]]:
    """Not where a limit over its identity budget has counted all new clients together."""
    counted = {}
    if plan.limits is not None:
        pairs = zip(plan.limits.rules, plan.limits.places, strict=True)
        counted = {rule.id: plan.whom[place] for rule, place in pairs}
    for rule in denied:
        parts = identity_parts(rule, facts, user)
        own = digest_of(parts)
        if counted.get(rule.id, own) == own:
            yield rule.id, names_of(parts)
