"""Who has to be told of what, noted once; and what it says."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.urls import reverse
from django.utils import timezone

from .beside import beside
from .models import Alert, Channel, Notification, Silence, Told
from .wording import of_metric

SHOWN = 20
"""Sources in one message; it says how many more there are."""
Event = Notification.Event


def note(ended: Iterable[Alert], now: datetime) -> None:
    """In the evaluator's transaction: a notification for all that fires and that nobody was told
    of, and for the end of what somebody was told of.

    What fires under a silence is told once that is over, as is what fired before a channel was
    made. A silence covers the end as well.
    """
    channels = [one for one in Channel.objects.filter(enabled=True) if one.reaches]
    firing = list(Alert.objects.filter(state=Alert.State.FIRING))
    over = [alert for alert in ended if alert.fired_at is not None]
    if not channels or not (firing or over):
        return
    silences = list(Silence.objects.active(now))
    told = {
        (one.channel_id, one.alert_id, one.event)
        for one in Told.objects.filter(alert__in=[*firing, *over])
    }
    waiting: dict[tuple[int, int | None, str], Notification] = {}
    for event, alerts in ((Event.FIRING, firing), (Event.RESOLVED, over)):
        for alert in alerts:
            if any(silence.covers(alert) for silence in silences):
                continue
            for channel in channels:
                wanted = (
                    channel.wants(alert.severity)
                    if event == Event.FIRING
                    else (channel.pk, alert.pk, Event.FIRING) in told
                )
                if not wanted or (channel.pk, alert.pk, event) in told:
                    continue
                key = channel.pk, alert.rule_id, event
                if key not in waiting:
                    waiting[key] = _notification(channel, alert, event, now)
                Told.objects.create(
                    notification=waiting[key], channel=channel, alert=alert, event=event
                )


def _notification(channel: Channel, alert: Alert, event: str, now: datetime) -> Notification:
    """One that still waits, locked lest it be sent before this is in it; else a new one."""
    found = Notification.objects.select_for_update().filter(
        channel=channel, rule=alert.rule_id, event=event, state=Notification.State.QUEUED
    )
    if alert.rule_id is not None and (one := found.first()) is not None:
        return one
    return Notification.objects.create(
        channel=channel, rule_id=alert.rule_id, event=event, made_at=now, next_try_at=now
    )


def message(notification: Notification) -> tuple[str, str]:
    """Title and body."""
    alerts = [one.alert for one in notification.told.select_related("alert").order_by("pk")]
    first = alerts[0]
    firing = notification.event == Event.FIRING
    word = "Firing" if firing else "Resolved"
    many = f" ({len(alerts)} sources)" if len(alerts) > 1 else f": {first.of}"
    severity = f", {first.severity}" if firing else ""
    lines = [first.words, ""] if first.words and firing else []
    lines += [_line(alert, firing) for alert in alerts[:SHOWN]]
    if len(alerts) > SHOWN:
        lines.append(f"and {len(alerts) - SHOWN} more")
    lines += ["", f"{reverse('admin:index')}monitoring/alert/"]
    return f"{word}{severity}: {first.name}{many}", "\n".join(lines)


def _line(alert: Alert, firing: bool) -> str:
    limit = f"{alert.direction} {of_metric(alert.threshold, alert.metric)}"
    if firing:
        value = of_metric(alert.fired_value, alert.metric)
        also = beside(alert)
        text = f"{alert.of}: {value}, {limit}, since {_at(alert.pending_since)}"
        text += f" ({also})" if also else ""
        return text + (f", over at {_at(alert.resolved_at)}" if alert.resolved_at else "")
    value = alert.reason or of_metric(alert.resolved_value, alert.metric)
    worst = of_metric(alert.worst, alert.metric)
    return (
        f"{alert.of}: {value}; it was {limit} from {_at(alert.pending_since)} to "
        f"{_at(alert.resolved_at)}, at worst {worst}"
    )


def _at(moment: datetime | None) -> str:
    return timezone.localtime(moment).strftime("%d %b %H:%M:%S %Z") if moment else ""
