"""Alert rules, where each stands for each source, and the alerts that came of it."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from .. import evaluation
from ..metrics import METRICS
from ..wording import amount
from .samples import Source

MAX_FOR_S = 86_400
MAX_SILENCE = timedelta(days=31)


def validate_metric(name: str) -> None:
    if name not in METRICS:
        raise ValidationError(f"No metric of that name: choose one of {', '.join(METRICS)}.")


def validate_guide(value: str) -> None:
    if not re.fullmatch(r"#[a-z0-9-]+|https?://[^\s<>\"]+", value):
        raise ValidationError("A heading of the guide, such as #redis-memory, or an address.")


class Severity(models.TextChoices):
    WARNING = "warning", "Warning"
    CRITICAL = "critical", "Critical"


class AlertRule(models.Model):
    """One condition, judged for each source that has its metric."""

    class Direction(models.TextChoices):
        ABOVE = evaluation.Direction.ABOVE, "above"
        BELOW = evaluation.Direction.BELOW, "below"

    name = models.CharField(max_length=80, unique=True)
    metric = models.CharField(max_length=40, validators=[validate_metric])
    direction = models.CharField(max_length=5, choices=Direction, default=Direction.ABOVE)
    threshold = models.FloatField(help_text="In the unit of the metric.")
    for_s = models.PositiveIntegerField(
        "for (s)",
        default=60,
        validators=[MaxValueValidator(MAX_FOR_S)],
        help_text="So long it must hold before anybody is told. 0: at once.",
    )
    clear = models.FloatField(
        "over at",
        null=True,
        blank=True,
        help_text="A firing alert is over once the value is back here. Empty: at the threshold.",
    )
    at_least = models.PositiveIntegerField(
        default=0,
        help_text="So many checks or requests must be behind a value; of fewer it says nothing.",
    )
    severity = models.CharField(max_length=10, choices=Severity, default=Severity.WARNING)
    enabled = models.BooleanField(default=True)
    words = models.CharField(
        max_length=200, blank=True, help_text="What it means, for whoever is told."
    )
    guide = models.CharField(
        max_length=200,
        blank=True,
        validators=[validate_guide],
        help_text="What to do: a heading of the guide (#redis-memory), or an address.",
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def condition(self) -> str:
        """``CPU of the main thread above 80 % for 5 min``."""
        metric = METRICS.get(self.metric)
        if metric is None:
            return self.metric
        lasting = f" for {amount(self.for_s, 's')}" if self.for_s else ""
        return f"{metric.label} {self.direction} {amount(self.threshold, metric.unit)}{lasting}"

    def as_rule(self) -> evaluation.Rule:
        return evaluation.Rule(
            threshold=self.threshold,
            direction=evaluation.Direction(self.direction),
            for_s=self.for_s,
            clear=self.clear,
            at_least=self.at_least,
        )

    def clean(self) -> None:
        errors = {}
        for field in ("threshold", "clear"):
            value = getattr(self, field)
            if value is not None and not math.isfinite(value):
                errors[field] = "A number."
        if not errors and self.clear is not None and self.threshold is not None:
            above = self.direction == self.Direction.ABOVE
            if (self.clear > self.threshold) if above else (self.clear < self.threshold):
                word = "above" if above else "below"
                errors["clear"] = f"It lies {word} the threshold: there it would still fire."
        metric = METRICS.get(self.metric)
        if self.at_least and metric is not None and not metric.evidence:
            errors["at_least"] = "This metric is not made of events: 0."
        if errors:
            raise ValidationError(errors)


class RuleState(models.Model):
    """Where a rule stands for a source; the evaluator's memory from one sample to the next."""

    class Phase(models.TextChoices):
        NO_DATA = evaluation.Phase.NO_DATA, "No data"
        OK = evaluation.Phase.OK, "OK"
        PENDING = evaluation.Phase.PENDING, "Pending"
        FIRING = evaluation.Phase.FIRING, "Firing"

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="states")
    source = models.ForeignKey(Source, on_delete=models.CASCADE, related_name="+")
    phase = models.CharField(max_length=10, choices=Phase, default=Phase.NO_DATA)
    since = models.DateTimeField(null=True)
    pending_since = models.DateTimeField(null=True)
    read_at = models.DateTimeField(null=True)
    known_at = models.DateTimeField(null=True)
    quiet_since = models.DateTimeField(null=True)
    value = models.FloatField(null=True)
    evaluated_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rule", "source"], name="one_state_a_rule_and_source")
        ]

    def __str__(self) -> str:
        return f"{self.rule}, {self.source}: {self.phase}"

    def as_state(self) -> evaluation.State:
        return evaluation.State(
            phase=evaluation.Phase(self.phase),
            **{field: getattr(self, field) for field in STATE_FIELDS},
        )

    def take(self, state: evaluation.State) -> None:
        self.phase = state.phase
        for field in STATE_FIELDS:
            setattr(self, field, getattr(state, field))


STATE_FIELDS = ("since", "pending_since", "read_at", "known_at", "quiet_since", "value")


class Alert(models.Model):
    """One time that a condition held, from pending to its end.

    It says what it said when it happened: name, threshold and source are kept with it, and outlive
    a rule that was edited or deleted. One that ended without ``fired_at`` has told nobody.
    """

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        FIRING = "firing", "Firing"
        RESOLVED = "resolved", "Resolved"

    OPEN = (State.PENDING, State.FIRING)

    rule = models.ForeignKey(AlertRule, null=True, on_delete=models.SET_NULL, related_name="alerts")
    source = models.ForeignKey(Source, null=True, on_delete=models.SET_NULL, related_name="+")
    name = models.CharField(max_length=80)
    of = models.CharField("source", max_length=255)
    metric = models.CharField(max_length=40)
    severity = models.CharField(max_length=10, choices=Severity)
    direction = models.CharField(max_length=5)
    threshold = models.FloatField()
    words = models.CharField(max_length=200, blank=True)
    guide = models.CharField(max_length=200, blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    pending_since = models.DateTimeField()
    pending_value = models.FloatField(null=True)
    fired_at = models.DateTimeField(null=True)
    fired_value = models.FloatField(null=True)
    resolved_at = models.DateTimeField(null=True)
    resolved_value = models.FloatField(null=True)
    value = models.FloatField(null=True, help_text="The newest that is known.")
    worst = models.FloatField(null=True)
    reason = models.CharField(
        max_length=200, blank=True, help_text="Why it ended, if not by value."
    )

    class Meta:
        ordering = ["-pending_since", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "source"],
                condition=Q(state__in=["pending", "firing"]),
                name="one_open_alert_a_rule_and_source",
            )
        ]
        indexes = [models.Index(fields=["state", "resolved_at"], name="alert_state_ended")]

    def __str__(self) -> str:
        return f"{self.name}: {self.of}"

    @property
    def is_open(self) -> bool:
        return self.state in self.OPEN

    def see(self, value: float | None) -> None:
        """The newest value, and whether it is the worst so far."""
        if value is None:
            return
        self.value = value
        if self.worst is None:
            self.worst = value
        elif self.direction == AlertRule.Direction.ABOVE:
            self.worst = max(self.worst, value)
        else:
            self.worst = min(self.worst, value)


class SilenceQuerySet(models.QuerySet["Silence"]):
    def active(self, now: object = None) -> SilenceQuerySet:
        return self.filter(until__gt=now or timezone.now(), ended_at=None)


class Silence(models.Model):
    """Nobody is told of what it covers until it ends; what still fires then is told then."""

    rule = models.ForeignKey(
        AlertRule, null=True, blank=True, on_delete=models.CASCADE, help_text="Empty: every rule."
    )
    source = models.ForeignKey(
        Source, null=True, blank=True, on_delete=models.CASCADE, help_text="Empty: every source."
    )
    until = models.DateTimeField(db_index=True)
    reason = models.CharField(max_length=200, blank=True)
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    made_at = models.DateTimeField(default=timezone.now, editable=False)
    ended_at = models.DateTimeField(null=True, editable=False, help_text="Ended before its time.")

    objects = SilenceQuerySet.as_manager()

    class Meta:
        ordering = ["-until"]

    def __str__(self) -> str:
        return f"{self.rule or 'every rule'}, {self.source or 'every source'}"

    @property
    def is_active(self) -> bool:
        return self.ended_at is None and self.until > timezone.now()

    def covers(self, alert: Alert) -> bool:
        return self.rule_id in (None, alert.rule_id) and self.source_id in (None, alert.source_id)

    def clean(self) -> None:
        if self.until is None:
            return
        now = timezone.now()
        if self.until <= now:
            raise ValidationError({"until": "It would be over already: choose a later time."})
        if self.until > now + MAX_SILENCE:
            raise ValidationError(
                {"until": f"{MAX_SILENCE.days} days at most: switch the rule off."}
            )
