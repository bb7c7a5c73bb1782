"""A load test that staff asked for in the admin: its row, from the request to the verdict."""

from __future__ import annotations

from django.db import models

from .work import Work


class LoadTest(Work):
    """What it measured is in ``run``, as of any benchmark; ``lines`` are its own words."""

    class Verdict(models.TextChoices):
        MET = "met", "Met"
        MISSED = "missed", "Missed"
        INVALID = "invalid", "Invalid"

    class Shape(models.TextChoices):
        STEADY = "", "Steady: all users from the ramp to the end"
        STEPS = "steps", "Steps: ten of them, to find how many are too many"
        SPIKE = "spike", "Spike: a tenth, then all at once, then a tenth"

    verdict = models.CharField(max_length=8, choices=Verdict.choices, blank=True)
    target = models.CharField(max_length=200)
    users = models.PositiveIntegerField()
    per_s = models.FloatField(default=10)
    seconds = models.PositiveIntegerField()
    shape = models.CharField(max_length=8, choices=Shape.choices, blank=True)
    same_limits = models.BooleanField(default=False)
    own_addresses = models.BooleanField(default=False)
    progress = models.JSONField(default=dict)
    lines = models.JSONField(default=list)
    reasons = models.JSONField(default=list)
    run = models.ForeignKey(
        "benchmarks.BenchmarkRun", models.SET_NULL, null=True, blank=True, related_name="+"
    )

    class Meta(Work.Meta):
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
