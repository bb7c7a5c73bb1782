"""The database's limits as a policy.Ruleset."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime

from django.contrib.auth.models import Group
from django.db.models import Q

from .models import Override, RateLimit, RulesetVersion
from .policy import rules
from .policy.errors import PolicyError
from .policy.matching import compile_rule, parse_networks
from .validators import split_lines

READ_ATTEMPTS = 5

logger = logging.getLogger(__name__)


def load() -> rules.Ruleset:
    """All limits that are in force, with the version at which they were so.

    The version is read before and after: an edit that commits in between is read again.
    """
    version = RulesetVersion.current()
    for _ in range(READ_ATTEMPTS):
        loaded, off = tuple(_rules()), tuple(_off())
        seen, version = version, RulesetVersion.current()
        if seen == version:
            break
    # Where edits outrun us, the older number: the next poll replaces it.
    return rules.Ruleset(min(seen, version), loaded, off)


def _rules() -> Iterator[rules.Rule]:
    """What cannot be enforced (written past the form) is left out and named in the log: one bad
    row must not keep every other limit from being published."""
    overrides = list(Override.objects.all())
    limits = RateLimit.objects.filter(mode__in=rules.IN_FORCE).prefetch_related("groups")
    for limit in limits:
        try:
            rule = with_overrides(limit, overrides)
            compile_rule(rule)
        except PolicyError as error:
            logger.error("Limit %s is not enforced; mend it in the admin: %s", limit.name, error)
        else:
            yield rule


def _off() -> Iterable[str]:
    """Code that asks for one of them is told that it is off, and not that nobody has made it."""
    off = RateLimit.objects.filter(mode=RateLimit.Mode.OFF)
    return off.order_by("name").values_list("name", flat=True)


def draft(limit: RateLimit, groups: Iterable[Group]) -> rules.Rule:
    """A limit that may not be saved yet. Raises PolicyError where it could not be enforced."""
    overrides = Override.objects.filter(Q(limit=None) | Q(limit=limit.pk))
    return with_overrides(limit, overrides, groups)


def with_overrides(
    limit: RateLimit, overrides: Iterable[Override], groups: Iterable[Group] | None = None
) -> rules.Rule:
    """The limit with those of ``overrides`` that are about it, which need not be the stored ones.
    Raises PolicyError where it could not be enforced."""
    own = [override for override in overrides if override.limit_id in (None, limit.pk)]
    return as_rule(limit, [override for override in own if _usable(override, limit)], groups)


def _usable(override: Override, limit: RateLimit) -> bool:
    try:
        if override.action == Override.Action.QUOTA:
            rules.with_quota(limit.as_rate(), override.quota or 0)
        if override.network:
            parse_networks((override.network,))
    except PolicyError as error:
        logger.error("Override %s of %s is not applied: %s", override.pk, limit.name, error)
        return False
    return True


def as_rule(
    limit: RateLimit, overrides: list[Override], groups: Iterable[Group] | None = None
) -> rules.Rule:
    """The limit as it is enforced; with other ``groups``, as a form would save it."""
    if groups is None:
        groups = limit.groups.all()
    return rules.Rule(
        id=limit.pk or 0,
        name=limit.name,
        rate=limit.as_rate(),
        epoch=limit.epoch,
        mode=rules.Mode(limit.mode),
        canary_permille=limit.canary_permille,
        methods=frozenset(split_lines(limit.methods)),
        path=limit.as_path(),
        host=limit.host.lower(),
        audience=rules.Audience(limit.audience),
        groups=frozenset(str(group.pk) for group in groups),
        networks=split_lines(limit.networks),
        networks_excluded=split_lines(limit.networks_excluded),
        counted_by=limit.as_counted_by(),
        header=limit.header.lower(),
        view_argument=limit.view_argument,
        counts=rules.Counts(limit.counts),
        statuses=rules.parse_statuses(limit.statuses),
        signal=limit.signal,
        lease=limit.lease,
        identities=limit.identities,
        on_failure=rules.FailurePolicy(limit.on_failure),
        message=limit.message,
        active_from_us=_us(limit.active_from),
        active_until_us=_us(limit.active_until),
        overrides=tuple(_override(override) for override in overrides),
    )


def _override(override: Override) -> rules.Override:
    if override.user_id:
        target, value = "user", str(override.user_id)
    elif override.group_id:
        target, value = "group", str(override.group_id)
    elif override.key_of:
        target, value = "key", f"{override.header.lower()}:{override.key_of}"
    else:
        target, value = "network", override.network
    return rules.Override(
        target,
        value,
        rules.OverrideAction(override.action),
        override.quota or 0,
        _us(override.until),
    )


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1_000_000)
