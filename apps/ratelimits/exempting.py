"""Blocking somebody, or lifting all limits for them, until a date: an Override of every limit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.utils import timezone

from .inspecting import Subject
from .models import Override
from .policy.client_ip import parse_address
from .policy.rules import OverrideAction

FOREVER_ACTIONS = (Override.Action.BLOCKED, Override.Action.UNLIMITED)


@dataclass(frozen=True, slots=True)
class Whom:
    """One that an override can be about. ``kind``: ``user``, ``network`` or ``key``."""

    kind: str
    text: str
    user: Any = None
    network: str = ""
    header: str = ""
    key_of: str = ""

    def overrides(self) -> QuerySet[Override]:
        """Those about just this one, the first of equals first, as they win."""
        if self.user is not None:
            return Override.objects.filter(user=self.user).order_by("pk")
        if self.network:
            return Override.objects.filter(network=self.network).order_by("pk")
        found = Override.objects.filter(header__iexact=self.header, key_of=self.key_of)
        return found.order_by("pk")


def targets(subject: Subject, network: str) -> list[Whom]:
    """Whom of an identity an override can be about; ``network``: its address's, as it counts."""
    found = []
    if subject.user is not None:
        name = f"user {subject.user.get_username()}"
        found.append(Whom("user", name, user=subject.user))
    if network and (parse_address(network.partition("/")[0]) is not None):
        found.append(Whom("network", network, network=network))
    if subject.key_of:
        text = f"the key of {subject.key_of}"
        found.append(Whom("key", text, header=subject.header, key_of=subject.key_of))
    return found


class Stands(Exception):
    """Another override stands in the way; ``override`` is it."""

    def __init__(self, override: Override, text: str) -> None:
        self.override = override
        super().__init__(text)


def draft(whom: Whom, action: OverrideAction, until: datetime, reason: str) -> Override:
    """The override as it would be saved: new, or the one of all limits that blocks or exempts the
    same already. Raises Stands, or ValidationError."""
    now = timezone.now()
    if until <= now:
        raise ValidationError("That time has passed: choose a later one.")
    for known in whom.overrides():
        lives = known.until is None or known.until > now
        if known.limit_id is None and known.action in FOREVER_ACTIONS:
            known.action, known.until = str(action), until
            known.reason = reason or known.reason
            known.full_clean()
            return known
        if lives and known.limit_id is None:
            raise Stands(known, f"{whom.text} has another quota already, of {known.quota:,}")
    made = Override(
        user=whom.user,
        network=whom.network,
        header=whom.header,
        key_of=whom.key_of,
        action=str(action),
        until=until,
        reason=reason,
    )
    made.full_clean()
    return made


def stronger(whom: Whom, drafted: Override) -> list[Override]:
    """Those of single limits that win over the draft there: they came first."""
    alive = Q(until=None) | Q(until__gt=timezone.now())
    found = whom.overrides().filter(alive).exclude(limit=None)
    return [one for one in found if drafted.pk is None or one.pk < drafted.pk]
