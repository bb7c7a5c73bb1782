"""What the limiter did, by minute, hour and day: few rows, however many requests.

usage_rolling.py writes them, usage_history.py reads them.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import models


class Resolution(models.IntegerChoices):
    """How long a row's time is, in seconds. Hours and days are UTC's."""

    MINUTE = 60
    HOUR = 3_600
    DAY = 86_400


KEPT = {
    Resolution.MINUTE: timedelta(hours=48),
    Resolution.HOUR: timedelta(days=90),
    Resolution.DAY: timedelta(days=400),
}


class RollUp(models.Model):
    """Of the ``resolution_s`` seconds that begin at ``at``; where there is no row, nothing was.

    ``sum_us``: how long the checks took, all together.
    """

    resolution_s = models.PositiveIntegerField(choices=Resolution)
    at = models.DateTimeField()
    allowed = models.PositiveBigIntegerField(default=0)
    denied = models.PositiveBigIntegerField(default=0)
    would_deny = models.PositiveBigIntegerField(default=0)
    degraded = models.PositiveBigIntegerField(default=0)
    sum_us = models.PositiveBigIntegerField(default=0)

    class Meta:
        abstract = True
        default_permissions = ()


class LimitRollUp(RollUp):
    """Verdicts of one limit, as storage/usage.py counts them.

    ``limit_id`` is no foreign key: thousands of rows of a deleted limit go bit by bit, and not
    while somebody waits for the page that deletes it.
    """

    limit_id = models.PositiveBigIntegerField()

    class Meta(RollUp.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["limit_id", "resolution_s", "at"], name="ratelimits_one_roll_up"
            )
        ]
        indexes = [
            models.Index(fields=["resolution_s", "at"], name="ratelimits_roll_up_at"),
            # Who denied lately: among a million rows, few.
            models.Index(
                fields=["resolution_s", "at"],
                condition=models.Q(denied__gt=0),
                name="ratelimits_roll_up_denied",
            ),
        ]

    def __str__(self) -> str:
        return f"limit {self.limit_id} at {self.at:%Y-%m-%d %H:%M}"


class TotalRollUp(RollUp):
    """Requests, over all limits. ``would_deny`` are verdicts: a request may have several.

    ``requests`` were answered by the middleware, ``errors`` of them with a 5xx; ``checks`` of them
    a limit was asked about.
    """

    requests = models.PositiveBigIntegerField(default=0)
    errors = models.PositiveBigIntegerField(default=0)
    checks = models.PositiveBigIntegerField(default=0)

    class Meta(RollUp.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["resolution_s", "at"], name="ratelimits_one_total_roll_up"
            )
        ]

    def __str__(self) -> str:
        return f"all limits at {self.at:%Y-%m-%d %H:%M}"


class RolledUp(models.Model):
    """One row: the reading of Redis' totals up to which everything is rolled up.

    Whoever raises ``turn`` from the one that it read writes what came since, in the same
    transaction: of two at once, one. ``counted`` is ``{"usage": ..., "limits": {id: [...]}}``, in
    which limits stay that still have rows.
    """

    ROW = 1

    turn = models.PositiveBigIntegerField(default=0)
    began_at = models.DateTimeField(help_text="Nothing is known of the time before.")
    read_at = models.DateTimeField()
    counted = models.JSONField(default=dict)

    class Meta:
        default_permissions = ()
        constraints = [
            models.CheckConstraint(condition=models.Q(id=1), name="ratelimits_rolled_up")
        ]

    def __str__(self) -> str:
        return f"turn {self.turn}, at {self.read_at:%Y-%m-%d %H:%M:%S}"
