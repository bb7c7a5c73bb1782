"""Notifications that wait, handed over: with pauses, a bounded number of times, never twice.

Claimed in a transaction of its own, sent outside of any, settled after. A sender that dies between
leaves a claim: it is settled as unclear and not sent again, for nobody knows whether it arrived.
The messages of a channel leave in their order; a channel that does not answer delays no other.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from celery import current_app
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from . import channels, sealing, telling
from .channels import Outcome, Sending
from .models import Channel, Notification

TASK = "monitoring.notify"
QUEUE = "monitoring"
MAX_ATTEMPTS = 8
FIRST_PAUSE_S, LONGEST_PAUSE_S = 10, 600
CLAIM_S = 60
"""Longer than any attempt lasts: one that was claimed before has lost its sender."""
State = Notification.State

log = logging.getLogger(__name__)


def hand_over(now: datetime) -> None:
    """Have a worker send what is due. Where the broker does not take the task (it may be what the
    alert is about), one is sent from here."""
    settle_lost(now)
    if not _due(now):
        return
    try:
        with current_app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
            current_app.send_task(TASK, queue=QUEUE, connection=connection, retry=False, expires=60)
    except (OperationalError, OSError):
        log.warning("Celery's broker does not answer: notifications are sent without it")
        deliver_one(now)


def deliver_one(now: datetime | None = None) -> bool:
    """Whether there was one to send, whatever came of it."""
    now = now or timezone.now()
    settle_lost(now)
    claimed = _claim(now)
    if claimed is None:
        return False
    _settle(claimed, _attempt(claimed))
    return True


def settle_lost(now: datetime) -> None:
    """Claims whose sender died."""
    bound = timedelta(seconds=CLAIM_S)
    # Not within a minute of now on either side: the clock may have been set back.
    lost = Notification.objects.filter(state=State.SENDING).exclude(
        claimed_at__range=(now - bound, now + bound)
    )
    number = lost.update(state=State.UNCLEAR, settled_at=now, error="the sender died meanwhile")
    if number:
        log.error("%d notifications were perhaps sent; they are not sent again", number)


def send_test(channel: Channel) -> Sending:
    """At once, from the page that asked."""
    title, body = "Test", f"A test of the channel {channel.name}: alerts of IOTA come here."
    return _send(channel, title, body, bad=False)


def forget(before: datetime) -> None:
    settled = (State.SENT, State.FAILED, State.UNCLEAR)
    Notification.objects.filter(state__in=settled, settled_at__lt=before, told=None).delete()


def pause_s(attempts: int) -> int:
    """After so many attempts."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S << (attempts - 1))


def _due(now: datetime) -> list[Notification]:
    """The oldest of each channel, where its time has come and no other of it is on its way."""
    waiting = Notification.objects.filter(state__in=(State.QUEUED, State.SENDING))
    heads: dict[int, Notification] = {}
    for one in waiting.order_by("pk"):
        heads.setdefault(one.channel_id, one)
        if one.state == State.SENDING:
            heads[one.channel_id] = one
    # No pause is longer than that: further away lies only what another clock has set.
    far = now + timedelta(seconds=LONGEST_PAUSE_S)
    return [
        one
        for one in heads.values()
        if one.state == State.QUEUED and (one.next_try_at <= now or one.next_try_at > far)
    ]


def _claim(now: datetime) -> Notification | None:
    with transaction.atomic():
        # The channel's row is what two senders meet at: else each would claim one of its messages.
        for one in sorted(_due(now), key=lambda one: one.next_try_at):
            Channel.objects.select_for_update(no_key=True).filter(pk=one.channel_id).first()
            queue = Notification.objects.filter(channel=one.channel_id)
            if queue.filter(state=State.SENDING).exists():
                continue
            found = queue.select_for_update(of=("self",)).filter(pk=one.pk, state=State.QUEUED)
            claimed = found.select_related("channel").first()
            if claimed is None:
                continue
            claimed.state, claimed.claimed_at = State.SENDING, now
            claimed.attempts += 1
            claimed.save(update_fields=["state", "claimed_at", "attempts"])
            return claimed
    return None


def _attempt(notification: Notification) -> Sending | None:
    """None: it can never be sent."""
    if not notification.channel.enabled:
        return None
    try:
        title, body = telling.message(notification)
    except IndexError:  # all its alerts were deleted
        return None
    bad = notification.event == Notification.Event.FIRING
    return _send(notification.channel, title, body, bad=bad)


def _send(channel: Channel, title: str, body: str, *, bad: bool) -> Sending:
    if not channel.sealed:
        return channels.mail(title, body)
    try:
        return channels.send(sealing.unseal(channel.sealed), f"[IOTA] {title}", body, bad=bad)
    except (sealing.CannotOpen, ValueError) as error:
        return Sending(Outcome.REFUSED, str(error))


def _settle(notification: Notification, sending: Sending | None) -> None:
    now = timezone.now()
    notification.error = sending.why[:200] if sending else "nobody is to be told any more"
    if sending is not None and sending.outcome is Outcome.SENT:
        notification.state = State.SENT
    elif sending is not None and sending.outcome is Outcome.UNCLEAR:
        notification.state = State.UNCLEAR
    elif sending is None or notification.attempts >= MAX_ATTEMPTS:
        notification.state = State.FAILED
    else:
        notification.state = State.QUEUED
        notification.next_try_at = now + timedelta(seconds=pause_s(notification.attempts))
    notification.settled_at = None if notification.state == State.QUEUED else now
    if notification.state != State.SENT:
        log.warning("%s: %s (%s)", notification, notification.state, notification.error)
    # Only what is ours still: a claim that was taken for lost meanwhile stays unclear.
    Notification.objects.filter(
        pk=notification.pk, state=State.SENDING, attempts=notification.attempts
    ).update(
        state=notification.state,
        error=notification.error,
        next_try_at=notification.next_try_at,
        settled_at=notification.settled_at,
    )
