"""What staff do about alerts: one function each, and an entry in the log."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import AbstractBaseUser
from django.db import models, transaction
from django.utils import timezone

from . import delivery
from .channels import Outcome
from .models import Alert, Channel, Silence

HOURS = (1, 4, 24)
"""What the alert's buttons offer."""


def silence(alert: Alert, user: AbstractBaseUser, hours: int, reason: str = "") -> Silence:
    """Of its rule at its source. Raises ValueError for other hours, or where both are gone."""
    if hours not in HOURS:
        raise ValueError(f"Choose {', '.join(map(str, HOURS))} hours.")
    if alert.rule is None or alert.source is None:
        raise ValueError("Its rule or its source is no more: there is nothing to silence.")
    with transaction.atomic():
        made = Silence.objects.create(
            rule=alert.rule,
            source=alert.source,
            until=timezone.now() + timedelta(hours=hours),
            reason=reason.strip()[:200],
            made_by_id=user.pk,
        )
        _log(user, made, ADDITION, f"Silenced for {hours} h.")
    return made


def end_silence(found: Silence, user: AbstractBaseUser) -> None:
    """Now: what it covered and still fires is told with the next samples. Raises ValueError where
    it is over already."""
    with transaction.atomic():
        ended = Silence.objects.active().filter(pk=found.pk).update(ended_at=timezone.now())
        if not ended:
            raise ValueError("That silence is over already.")
        _log(user, found, CHANGE, "Ended.")


def test_channel(channel: Channel, user: AbstractBaseUser) -> None:
    """Send a test, now. Raises ValueError, which says what came of it, where it did not arrive."""
    sending = delivery.send_test(channel)
    _log(user, channel, CHANGE, f"Test: {sending.outcome} {sending.why}".strip())
    if sending.outcome is Outcome.UNCLEAR:
        raise ValueError(f"Perhaps it has arrived: {sending.why}.")
    if sending.outcome is Outcome.REFUSED:
        raise ValueError(f"The test was not taken: {sending.why}.")


def _log(user: AbstractBaseUser, changed: models.Model, flag: int, message: str) -> None:
    LogEntry.objects.log_actions(user.pk, [changed], flag, message, single_object=True)
