"""What requests do to the limits, from the limiter's own counters: no client is named."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from apps.ratelimits.policy.rules import BLOCKING, Rule
from apps.ratelimits.storage.cardinality import IdentityCount
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.server_findings import Finding, Level
from apps.ratelimits.storage.usage import LimitUsage, Usage

from ..amounts import in_time
from ..look import Look, unknown
from ..registry import Topic, finding
from .connections import read_usage

WHERE = "the limits"
TOP = 3
MANY_DEGRADED = 0.01
ENOUGH = 100
"""Verdicts, before a share of them means something."""
ONE_LIMIT = 0.9
LONG_S = 86_400
MOST_BUDGETS = 50
LIST = "the limit's page in the admin"


@dataclass(frozen=True, slots=True)
class Budgeted:
    """A limit with an identity budget, and how it stands."""

    name: str
    count: IdentityCount


@finding("requests", Topic.LIMITER, "Request patterns", limit_s=4)
def requests(look: Look) -> Iterator[Finding]:
    try:
        published = look.engine.store.fetch()
    except Unavailable as error:
        why = str(error.__cause__ or error)
        yield unknown("what requests do to the limits", WHERE, why, "See what the servers say.")
        return
    rules = published.rules if published else ()
    yield from over_budget(_budgets(look, rules))
    usage = read_usage(look)
    if usage is None:
        why = "the limiter's counters cannot be read"
        yield unknown("which limits match, and which deny", WHERE, why, "Update all processes.")
        return
    yield from judge(usage, rules, time.time())


def _budgets(look: Look, rules: Sequence[Rule]) -> list[Budgeted]:
    found = []
    for rule in rules[:MOST_BUDGETS]:
        try:
            count = look.engine.identities.count(rule, time.time())
        except Unavailable:
            break
        if count is not None:
            found.append(Budgeted(rule.name, count))
    return found


def over_budget(budgets: Sequence[Budgeted]) -> Iterator[Finding]:
    for one in budgets:
        if one.count.came > one.count.budget:
            yield Finding(
                Level.WARNING,
                "over-budget",
                one.name,
                "More clients come to it than it counts apart: new ones are counted together.",
                f"{one.count.came:,} identities in {in_time(one.count.period_s)}, budget "
                f"{one.count.budget:,}",
                "See docs/guides/identity-budget.md: an attack with ever new addresses, or a "
                "budget that the site has outgrown.",
            )


def judge(usage: Usage, rules: Sequence[Rule], now_s: float) -> Iterator[Finding]:
    """``usage``: totals since they began."""
    for_s = max(0.0, now_s - usage.since_s)
    span = f"in {in_time(for_s)}"
    yield _summary(usage, rules, span)
    checks = sum(usage.checks)
    if usage.degraded > MANY_DEGRADED * max(checks, usage.degraded, 1):
        yield Finding(
            Level.WARNING,
            "degraded",
            WHERE,
            "Many requests were decided without Redis, by each limit's own policy.",
            f"{usage.degraded:,} requests {span}, {checks:,} checks",
            "See `manage.py doctor --only servers,latency` and docs/overview/failure.md.",
        )
    yield from _one_limit(usage, rules, span)
    for rule in rules:
        yield from _of_limit(rule, usage.limits.get(rule.id, LimitUsage()), for_s, span)


def _summary(usage: Usage, rules: Sequence[Rule], span: str) -> Finding:
    names = {rule.id: rule.name for rule in rules}
    busy = _top(usage.limits, names, lambda one: one.allowed + one.denied)
    denying = _top(usage.limits, names, lambda one: one.denied)
    evidence = (
        f"{usage.requests:,} requests {span}: {usage.allowed:,} allowed, {usage.denied:,} denied, "
        f"{usage.errors:,} errors (5xx)"
    )
    if busy:
        evidence += f"; most asked: {busy}"
    if denying:
        evidence += f"; deny most: {denying}"
    return Finding(Level.INFO, "requests", WHERE, "What came, and what was denied.", evidence)


def _top(
    limits: Mapping[int, LimitUsage],
    names: Mapping[int, str],
    weight: Callable[[LimitUsage], int],
) -> str:
    order = sorted(limits.items(), key=lambda item: -weight(item[1]))[:TOP]
    return ", ".join(
        f"{names.get(number, f'limit {number}')} {weight(one):,}"
        for number, one in order
        if weight(one)
    )


def _one_limit(usage: Usage, rules: Sequence[Rule], span: str) -> Iterator[Finding]:
    """Where one limit denies nearly all, one client or one tight limit is the likely reason."""
    denied = sum(one.denied for one in usage.limits.values())
    for rule in rules:
        own = usage.limits.get(rule.id, LimitUsage()).denied
        if len(rules) > 1 and denied >= ENOUGH and own >= ONE_LIMIT * denied:
            yield Finding(
                Level.INFO,
                "one-limit-denies",
                rule.name,
                "Nearly all denials come from this one limit.",
                f"{own:,} of {denied:,} denials ({100 * own / denied:.0f} %) {span}",
                f"See whom it denies on {LIST}: one client that does not stop, or too tight a "
                "quota.",
            )


def _of_limit(rule: Rule, used: LimitUsage, for_s: float, span: str) -> Iterator[Finding]:
    asked = used.allowed + used.denied
    if rule.mode in BLOCKING and used.denied >= ENOUGH and not used.allowed:
        yield Finding(
            Level.WARNING,
            "always-denies",
            rule.name,
            "It has denied every request that it matched.",
            f"{used.denied:,} denied, none allowed {span}",
            f"See {LIST}: its quota, what it counts together, and its block time.",
        )
    elif not asked and not used.would_deny and for_s >= LONG_S:
        yield Finding(
            Level.INFO,
            "never-matches",
            rule.name,
            "It has matched no request.",
            f"no verdict {span}",
            f"See {LIST}: its path, host, methods and audience; delete it if nobody needs it.",
        )
