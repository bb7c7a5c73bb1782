"""The limits in force as rows that a load test can check: those of ``ratelimit export`` that say
what is promised."""

from __future__ import annotations

from typing import Any

from apps.ratelimits.policy.matching import Index
from apps.ratelimits.policy.rules import Mode, Rule


def rows(index: Index) -> list[dict[str, Any]]:
    """Of those that are enforced, and that promise the same to everybody: an exception says
    otherwise to somebody whom a load test does not know."""
    return [
        _row(compiled.rule)
        for compiled in index.rules
        if compiled.rule.mode is Mode.ENFORCE and not compiled.rule.overrides
    ]


def _row(rule: Rule) -> dict[str, Any]:
    rate = rule.rate
    return {
        "name": rule.name,
        "mode": str(rule.mode),
        "methods": sorted(rule.methods),
        "path_kind": str(rule.path.kind),
        "path": rule.path.value,
        "host": rule.host,
        "audience": str(rule.audience),
        "groups": sorted(rule.groups),
        "networks": list(rule.networks),
        "networks_excluded": list(rule.networks_excluded),
        "active_from": rule.active_from_us,
        "active_until": rule.active_until_us,
        "counted_by": [str(part) for part in rule.counted_by],
        "algorithm": str(rate.algorithm),
        "quota": rate.quota,
        "window_s": rate.window_us / 1_000_000,
        "burst": rate.burst,
        "cost": rate.cost,
        "counts": str(rule.counts),
        "charge_denied": rate.charge_denied,
        "block_amount": rate.block_us,
        "lease": rule.lease,
    }
