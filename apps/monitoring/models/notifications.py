"""Who is told of alerts, and what was sent to whom."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone

from .alerts import Alert, AlertRule, Severity


class Channel(models.Model):
    """A receiver. Its URL holds tokens and passwords: it is kept sealed (``sealing.py``), and of
    it only ``receiver`` is ever shown. One without a URL is mail to IOTA_ADMINS."""

    name = models.CharField(max_length=80, unique=True)
    sealed = models.TextField(blank=True, editable=False)
    receiver = models.CharField(max_length=255, blank=True, editable=False)
    severity = models.CharField(
        "from",
        max_length=10,
        choices=Severity,
        default=Severity.WARNING,
        help_text="Critical: it is not told of warnings.",
    )
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]
        permissions = [("test_channel", "Can send a test to a channel")]

    def __str__(self) -> str:
        return self.name

    @property
    def reaches(self) -> bool:
        """Whether there is anybody at its end."""
        return bool(self.sealed or settings.ADMINS)

    def wants(self, severity: str) -> bool:
        return severity == Severity.CRITICAL or self.severity == Severity.WARNING


class Notification(models.Model):
    """One message to one channel: what happened to one rule, at however many sources.

    It is claimed (SENDING) in a transaction of its own before it is handed over. A claim whose
    sender died, and a hand-over whose outcome nobody saw, end as UNCLEAR: perhaps it has arrived,
    and it is not sent again.
    """

    class Event(models.TextChoices):
        FIRING = "firing", "Firing"
        RESOLVED = "resolved", "Resolved"

    class State(models.TextChoices):
        QUEUED = "queued", "Waits"
        SENDING = "sending", "Being sent"
        SENT = "sent", "Sent"
        FAILED = "failed", "Given up"
        UNCLEAR = "unclear", "Perhaps sent"

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="notifications")
    rule = models.ForeignKey(AlertRule, null=True, on_delete=models.SET_NULL, related_name="+")
    event = models.CharField(max_length=10, choices=Event)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    attempts = models.PositiveIntegerField(default=0)
    made_at = models.DateTimeField(default=timezone.now)
    next_try_at = models.DateTimeField(default=timezone.now)
    claimed_at = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["state", "next_try_at"], name="notification_due")]

    def __str__(self) -> str:
        return f"{self.event} to {self.channel}"


class Told(models.Model):
    """That a channel is told of an event of an alert: once, whoever tries."""

    notification = models.ForeignKey(Notification, on_delete=models.CASCADE, related_name="told")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="+")
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="told")
    event = models.CharField(max_length=10, choices=Notification.Event)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["channel", "alert", "event"], name="told_once")
        ]

    def __str__(self) -> str:
        return f"{self.channel} of {self.alert} {self.event}"
