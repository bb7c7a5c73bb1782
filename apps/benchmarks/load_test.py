"""A load test that staff asked for in the admin: its row, from the request to the verdict."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone


class LoadTest(models.Model):
    """What it measured is in ``run``, as of any benchmark; ``lines`` are its own words."""

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        STOPPED = "stopped", "Stopped"
        LOST = "lost", "Lost"

    class Verdict(models.TextChoices):
        MET = "met", "Met"
        MISSED = "missed", "Missed"
        INVALID = "invalid", "Invalid"

    class Shape(models.TextChoices):
        STEADY = "", "Steady: all users from the ramp to the end"
        STEPS = "steps", "Steps: ten of them, to find how many are too many"
        SPIKE = "spike", "Spike: a tenth, then all at once, then a tenth"

    WAITING = (State.QUEUED, State.RUNNING)

    state = models.CharField(max_length=8, choices=State.choices, default=State.QUEUED)
    verdict = models.CharField(max_length=8, choices=Verdict.choices, blank=True)
    target = models.CharField(max_length=200)
    users = models.PositiveIntegerField()
    per_s = models.FloatField(default=10)
    seconds = models.PositiveIntegerField()
    shape = models.CharField(max_length=8, choices=Shape.choices, blank=True)
    same_limits = models.BooleanField(default=False)
    own_addresses = models.BooleanField(default=False)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    queued_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField(
        null=True, blank=True, help_text="The last sign of life of the worker that runs it."
    )
    stop_asked = models.BooleanField(default=False)
    progress = models.JSONField(default=dict)
    lines = models.JSONField(default=list)
    reasons = models.JSONField(default=list)
    note = models.TextField(blank=True)
    run = models.ForeignKey(
        "benchmarks.BenchmarkRun", models.SET_NULL, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ["-queued_at", "-pk"]
        constraints = [
            # Two at once load each other.
            models.UniqueConstraint(
                fields=["state"],
                condition=models.Q(state="running"),
                name="benchmarks_one_load_test",
            )
        ]

    def __str__(self) -> str:
        return f"load test {self.pk}"

    @property
    def waits(self) -> bool:
        return self.state in self.WAITING

    @property
    def stopping(self) -> bool:
        return self.stop_asked and self.state == self.State.RUNNING

    @property
    def shown_state(self) -> str:
        return "Stopping" if self.stopping else str(self.State(self.state).label)
