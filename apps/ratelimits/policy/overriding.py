"""Which exception of a limit is about a client."""

from __future__ import annotations

from .client_ip import in_networks
from .facts import RequestFacts, UserFacts
from .matching import CompiledOverride, CompiledRule

_PARTICULARITY = {"user": 4, "key": 3, "network": 2, "group": 1}


def override_for(
    compiled: CompiledRule, facts: RequestFacts, user: UserFacts, now_us: int
) -> CompiledOverride | None:
    """The most particular that has not ended: user before key, network and group; of equals the
    first. None where there is none."""
    found = None
    rank = 0
    for candidate in compiled.overrides:
        own = candidate.override
        if own.until_us is not None and own.until_us <= now_us:
            continue
        if _PARTICULARITY[own.target] > rank and _is_about(candidate, facts, user):
            found, rank = candidate, _PARTICULARITY[own.target]
    return found


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
