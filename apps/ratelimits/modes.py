"""Switching limits on and off from the server: the way back, and back from it.

Each change is an entry in the limit's history with nobody as its author. The entry of ``disable``
names the mode that the limit had, so that it can be restored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from django.db import transaction
from django.db.models import OuterRef, Subquery
from django.utils import timezone

from .models import RateLimit, RulesetVersion
from .models.entries import keep_groups
from .policy.errors import PolicyError

REASON = "manage.py ratelimit"
WAS = f"{REASON} disable: was "
BECAUSE = ". "
"""What follows it is the caller's own."""
MOST_WHY = 140


class UnknownLimits(Exception):
    """Names that no limit has; ``names`` holds them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = sorted(names)
        super().__init__(", ".join(self.names))


class Impossible(Exception):
    """A limit cannot be in the mode that was wanted."""


@dataclass(frozen=True, slots=True)
class Change:
    """One limit's mode before and after."""

    name: str
    before: str
    after: str


def set_modes(wanted: Mapping[str, str], *, dry_run: bool = False, why: str = "") -> list[Change]:
    """Bring limits, by name, to modes: all in one transaction, which raises the version once for
    each mode and is published after it. ``why`` is for the history, of MOST_WHY characters at
    most. Returns what changed, or would. Raises UnknownLimits where a name is none, Impossible
    where a limit cannot be in that mode, and changes nothing then."""
    with transaction.atomic():
        RulesetVersion.hold()
        limits = list(RateLimit.objects.select_for_update().filter(name__in=wanted))
        if unknown := set(wanted).difference(limit.name for limit in limits):
            raise UnknownLimits(unknown)
        found = [limit for limit in limits if limit.mode != wanted[limit.name]]
        for limit in found:
            try:
                limit.check_mode(wanted[limit.name])
            except PolicyError as error:
                raise Impossible(f"{limit.name} cannot be a canary: {error}.") from error
        changes = [Change(limit.name, limit.mode, wanted[limit.name]) for limit in found]
        if not dry_run:
            now = timezone.now()
            for limit in found:
                limit._change_reason = _reason(limit.mode, wanted[limit.name], why)  # type: ignore[attr-defined]
                limit.mode, limit.updated_at = wanted[limit.name], now
            for mode, alike in groupby(sorted(found, key=_mode), key=_mode):
                pks = [limit.pk for limit in alike]
                RateLimit.objects.filter(pk__in=pks).update(mode=mode, updated_at=now)
            entries = RateLimit.history.bulk_history_create(found, update=True)
            keep_groups(entries)
    return changes


def _mode(limit: RateLimit) -> str:
    return limit.mode


def _reason(before: str, after: str, why: str) -> str:
    said = f"{WAS}{before}" if after == RateLimit.Mode.OFF else f"{REASON} enable"
    return f"{said}{BECAUSE}{why}" if why else said


def restorable() -> dict[str, str]:
    """The limits that ``disable`` switched off and nobody edited since: name -> mode before."""
    newest = RateLimit.history.filter(id=OuterRef("pk")).order_by("-history_date", "-history_id")
    reason = Subquery(newest.values("history_change_reason")[:1])
    found = RateLimit.objects.filter(mode=RateLimit.Mode.OFF).annotate(newest_reason=reason)
    rows = found.filter(newest_reason__startswith=WAS).values_list("name", "newest_reason")
    known = set(RateLimit.Mode) - {RateLimit.Mode.OFF}
    modes = ((name, why.removeprefix(WAS).split(BECAUSE)[0]) for name, why in rows)
    return {name: mode for name, mode in modes if mode in known}
