"""What the sweeper did, run by run."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone


class SweepRun(models.Model):
    """One run, within its budget. A pass through all keys may take many of them: they have the
    same ``pass_number``, and each goes on at ``places`` of the one before.

    ``seen_at``: the last sign of life of whoever runs it. Dry runs have passes of their own.
    """

    class State(models.TextChoices):
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        STOPPED = "stopped", "Stopped"
        LOST = "lost", "Lost"
        FAILED = "failed", "Failed"

    class Trigger(models.TextChoices):
        SCHEDULE = "schedule", "Schedule"
        STAFF = "staff", "Staff"
        COMMAND = "command", "Command line"

    state = models.CharField(max_length=8, choices=State.choices, default=State.RUNNING)
    trigger = models.CharField(max_length=8, choices=Trigger.choices)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    dry_run = models.BooleanField(default=False)
    pass_number = models.PositiveIntegerField(default=1)
    is_last = models.BooleanField(default=False, help_text="The pass came to its end with it.")
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField(default=timezone.now)
    budget_s = models.FloatField(null=True, blank=True)
    places = models.JSONField(default=list, help_text="Where each server's scan is.")
    seen = models.PositiveBigIntegerField(default=0)
    removed = models.JSONField(default=dict, help_text="Keys by kind.")
    records = models.PositiveBigIntegerField(default=0)
    entries = models.PositiveBigIntegerField(default=0)
    abandoned = models.PositiveBigIntegerField(default=0)
    bounded = models.PositiveBigIntegerField(default=0)
    left = models.PositiveBigIntegerField(default=0)
    overrides = models.PositiveIntegerField(default=0)
    freed_bytes = models.PositiveBigIntegerField(
        default=0, help_text="Of names and contents; the server's own overhead comes on top."
    )
    identities = models.JSONField(default=dict, help_text="How many each limit counts, by its id.")
    error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-started_at", "-pk"]
        verbose_name = "clean-up run"
        verbose_name_plural = "clean-up"
        permissions = [("run_sweeprun", "Can start and stop sweeps")]
        constraints = [
            # Two would go through the same keys.
            models.UniqueConstraint(
                fields=["state"],
                condition=models.Q(state="running"),
                name="ratelimits_one_sweep",
            )
        ]
        indexes = [
            models.Index(fields=["dry_run", "started_at"], name="ratelimits_sweep_started"),
        ]

    def __str__(self) -> str:
        return f"sweep {self.pk}"

    @property
    def keys_removed(self) -> int:
        return sum(self.removed.values())

    @property
    def keys(self) -> int:
        """That the servers hold, whoever's."""
        return sum(place["keys"] for place in self.places)

    @property
    def failed_places(self) -> list[str]:
        return [f"{place['address']}: {place['error']}" for place in self.places if place["error"]]
