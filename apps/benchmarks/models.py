"""What was measured, where, of which code; and what is thought of it."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone

from .work import Work


class Machine(models.Model):
    """Where a run took place, by what of it does not change from one run to the next.

    Runs of different machines are never compared.
    """

    fingerprint = models.CharField(max_length=32, unique=True)
    fields = models.JSONField()
    name = models.CharField(max_length=60, blank=True)

    def __str__(self) -> str:
        return self.name or f"machine {self.fingerprint[:8]}"


class Metric(models.Model):
    """A figure that can be compared with itself over time: its parameters are part of it."""

    class Direction(models.TextChoices):
        LOWER = "lower", "lower is better"
        HIGHER = "higher", "higher is better"

    digest = models.CharField(max_length=32, unique=True)
    suite = models.CharField(max_length=60)
    benchmark = models.CharField(max_length=80)
    metric = models.CharField(max_length=80)
    contestant = models.CharField(max_length=80, blank=True)
    parameters = models.JSONField(default=dict)
    unit = models.CharField(max_length=20)
    direction = models.CharField(max_length=6, choices=Direction.choices)
    threshold_percent = models.FloatField(
        null=True, blank=True, help_text="What is suspect, in percent. Empty: 10."
    )
    ignored = models.BooleanField(default=False, help_text="Measured and shown, never judged.")

    class Meta:
        indexes = [models.Index(fields=["suite", "benchmark"], name="benchmarks_metric_suite")]

    def __str__(self) -> str:
        return " ".join(part for part in (self.benchmark, self.metric, self.contestant) if part)


class BenchmarkRun(Work):
    """One run of a set of benchmarks, from its request to its end.

    ``uid`` is the same wherever the run is imported.
    """

    class Trigger(models.TextChoices):
        STAFF = "staff", "Staff"
        SCHEDULE = "schedule", "Schedule"
        COMMAND = "command", "Command line"
        CI = "ci", "CI"
        LOCUST = "locust", "Locust"
        RERUN = "rerun", "Rerun of a suspect"
        IMPORT = "import", "Imported"

    uid = models.UUIDField(unique=True, null=True, default=uuid.uuid4, editable=False)
    trigger = models.CharField(max_length=8, choices=Trigger.choices)
    set_name = models.CharField(max_length=20, blank=True)
    chosen = models.JSONField(default=list, help_text="Names of benchmarks, where no set is named.")
    rerun_of = models.ForeignKey("self", models.SET_NULL, null=True, blank=True)
    machine = models.ForeignKey(Machine, models.PROTECT, null=True, blank=True)
    commit = models.CharField(max_length=40, blank=True)
    dirty = models.BooleanField(default=False)
    branch = models.CharField(max_length=200, blank=True)
    judged_at = models.DateTimeField(null=True, blank=True)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    current = models.CharField(max_length=80, blank=True)
    load_average = models.FloatField(null=True, blank=True)
    loop_us = models.FloatField(null=True, blank=True, help_text="A fixed loop of arithmetic.")
    ping_us = models.FloatField(null=True, blank=True, help_text="PING of the run's own server.")
    errors = models.JSONField(default=list)

    class Meta(Work.Meta):
        constraints = [
            # Two that measure at once measure each other.
            models.UniqueConstraint(
                fields=["state"],
                condition=models.Q(state="running"),
                name="benchmarks_one_running",
            )
        ]
        indexes = [
            models.Index(fields=["state", "queued_at"], name="benchmarks_run_state"),
            models.Index(fields=["machine", "branch", "started_at"], name="benchmarks_run_where"),
            models.Index(
                fields=["ended_at"],
                condition=models.Q(state="done", judged_at=None),
                name="benchmarks_run_unjudged",
            ),
        ]

    def __str__(self) -> str:
        return f"run {self.pk}"


class Measurement(models.Model):
    """One metric of one run. Figures are of its samples, each the median of a round.

    Machine, branch and time are the run's, kept here so that a trend is one look at an index.
    """

    run = models.ForeignKey(BenchmarkRun, models.CASCADE, related_name="measurements")
    metric = models.ForeignKey(Metric, models.PROTECT, related_name="measurements")
    machine = models.ForeignKey(Machine, models.PROTECT, related_name="+")
    branch = models.CharField(max_length=200, blank=True)
    taken_at = models.DateTimeField()
    n = models.PositiveIntegerField()
    minimum = models.FloatField()
    p50 = models.FloatField()
    p95 = models.FloatField()
    p99 = models.FloatField()
    maximum = models.FloatField()
    mean = models.FloatField()
    deviation = models.FloatField()
    mad = models.FloatField()
    samples = models.JSONField(default=list)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "metric"], name="benchmarks_once_per_run")
        ]
        indexes = [
            models.Index(
                fields=["metric", "machine", "branch", "taken_at"], name="benchmarks_trend"
            )
        ]

    def __str__(self) -> str:
        return f"{self.metric}: {self.p50:g}"


class Baseline(models.Model):
    """From ``since`` on a series is compared with itself: what was before was accepted as past."""

    metric = models.ForeignKey(Metric, models.CASCADE)
    machine = models.ForeignKey(Machine, models.CASCADE)
    branch = models.CharField(max_length=200, blank=True)
    since = models.DateTimeField()
    reason = models.TextField()
    accepted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    accepted_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-since"]
        indexes = [
            models.Index(
                fields=["metric", "machine", "branch", "since"], name="benchmarks_baseline_where"
            )
        ]

    def __str__(self) -> str:
        return f"{self.metric} since {self.since:%Y-%m-%d}"


class Regression(models.Model):
    """A series that has become worse, or better, or seems to have."""

    class State(models.TextChoices):
        SUSPECTED = "suspected", "Suspected"
        CONFIRMED = "confirmed", "Confirmed"
        REFUTED = "refuted", "Not confirmed"
        ACKNOWLEDGED = "acknowledged", "Acknowledged"
        ACCEPTED = "accepted", "Accepted as the new baseline"
        IGNORED = "ignored", "Ignored"

    OPEN = (State.SUSPECTED, State.CONFIRMED, State.ACKNOWLEDGED)

    metric = models.ForeignKey(Metric, models.CASCADE)
    machine = models.ForeignKey(Machine, models.CASCADE)
    branch = models.CharField(max_length=200, blank=True)
    state = models.CharField(max_length=12, choices=State.choices, default=State.SUSPECTED)
    better = models.BooleanField(default=False)
    run = models.ForeignKey(BenchmarkRun, models.SET_NULL, null=True, related_name="regressions")
    ratio = models.FloatField(help_text="New to baseline; over 1 is worse, whatever the direction.")
    p_value = models.FloatField(null=True, blank=True)
    evidence = models.JSONField(default=dict)
    opened_at = models.DateTimeField(default=timezone.now)
    confirmed_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    told_at = models.DateTimeField(null=True, blank=True)
    handled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    reason = models.TextField(blank=True)

    class Meta:
        ordering = ["-opened_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["metric", "machine", "branch", "better"],
                condition=models.Q(state__in=["suspected", "confirmed", "acknowledged"]),
                name="benchmarks_one_open_regression",
            )
        ]

    def __str__(self) -> str:
        return f"{self.metric}: {'better' if self.better else 'worse'} ({self.state})"


class Annotation(models.Model):
    """What happened at a time, drawn beside the trends."""

    class Kind(models.TextChoices):
        DEPLOYMENT = "deployment", "Deployment"
        LIMITS = "limits", "Limits edited"
        NOTE = "note", "Note"

    at = models.DateTimeField(default=timezone.now, db_index=True)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.NOTE)
    text = models.CharField(max_length=200)
    commit = models.CharField(max_length=40, blank=True)
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return self.text


from .load_test import LoadTest as LoadTest  # noqa: E402  (its own module, found by Django here)
