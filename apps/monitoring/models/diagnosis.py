"""What the doctor found, diagnosis by diagnosis."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone


class Diagnosis(models.Model):
    """``outcomes`` holds for each part its ``name``, ``topic``, ``title``, ``took_s`` and
    ``findings``, as the command's JSON has them. While it runs, ``done`` of ``total`` parts are
    looked at, ``current`` is the title of the next, and ``seen_at`` its last sign of life."""

    class State(models.TextChoices):
        QUEUED = "queued", "Waits for a worker"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        LOST = "lost", "Lost"

    KEEP = 50
    LOST_AFTER = timedelta(seconds=90)
    """A part takes seconds."""
    UNTAKEN_AFTER = timedelta(minutes=5)

    state = models.CharField(max_length=8, choices=State.choices, default=State.QUEUED)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    queued_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    took_s = models.FloatField(null=True, blank=True)
    done = models.PositiveSmallIntegerField(default=0)
    total = models.PositiveSmallIntegerField(default=0)
    current = models.CharField(max_length=100, blank=True)
    outcomes = models.JSONField(default=list, blank=True)
    note = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-queued_at", "-pk"]
        verbose_name = "diagnosis"
        verbose_name_plural = "Doctor"
        default_permissions = ("view",)
        permissions = [("run_doctor", "Can run the doctor")]

    def __str__(self) -> str:
        return f"diagnosis {self.pk}"

    @property
    def waits(self) -> bool:
        return self.state in (self.State.QUEUED, self.State.RUNNING)

    def counts(self) -> Counter[str]:
        """Findings by level."""
        return Counter(
            str(finding["level"]) for part in self.outcomes for finding in part["findings"]
        )

    @classmethod
    def settle(cls, now: datetime) -> None:
        """Those that nobody took, or whose worker died, wait no longer."""
        cls.objects.filter(state=cls.State.RUNNING, seen_at__lt=now - cls.LOST_AFTER).update(
            state=cls.State.LOST, ended_at=now, note="Its worker vanished."
        )
        cls.objects.filter(state=cls.State.QUEUED, queued_at__lt=now - cls.UNTAKEN_AFTER).update(
            state=cls.State.LOST, ended_at=now, note="No worker took it."
        )

    @classmethod
    def forget_old(cls) -> None:
        kept = list(cls.objects.values_list("pk", flat=True)[: cls.KEEP])
        cls.objects.exclude(pk__in=kept).delete()
