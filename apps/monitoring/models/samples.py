"""Where samples come from, and the samples: as taken, and rolled up."""

from __future__ import annotations

from django.db import models

from ..metrics import Kind


class Source(models.Model):
    """A server of the counters, Celery's queues, or the limiter over all processes.

    ``address`` carries no user and no password. ``run_id`` is the server's own name for its life
    since it started: counters of another run begin at nothing. ``error`` says why nothing could
    be read at ``looked_at``; ``unknown`` says by metric's name what it may not be asked, and why,
    and ``notes`` what a number leaves open. One that left the topology is ``gone_at`` since, and is
    forgotten some days later.

    ``counters`` and ``replicas`` are what the next look is compared with.
    """

    kind = models.CharField(max_length=10, choices=[(kind, kind) for kind in Kind])
    address = models.CharField(max_length=255, blank=True)
    run_id = models.CharField(max_length=40, blank=True)
    role = models.CharField(max_length=10, blank=True)
    server = models.CharField(max_length=40, blank=True, help_text="Flavour and version.")
    first_seen_at = models.DateTimeField()
    looked_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=500, blank=True)
    gone_at = models.DateTimeField(null=True, blank=True)
    unknown = models.JSONField(default=dict, blank=True)
    notes = models.JSONField(default=dict, blank=True)
    counters = models.JSONField(default=dict, blank=True)
    replicas = models.JSONField(default=dict, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "address"], name="one_source_an_address")
        ]
        ordering = ["kind", "address"]

    def __str__(self) -> str:
        return self.address or self.kind


class Sample(models.Model):
    """What a source said for the ``resolution_s`` seconds that begin at ``at``.

    ``values`` maps a metric's name to a number where ``resolution_s`` is SAMPLE_S, and to
    ``[lowest, mean, highest]`` where several samples were rolled up into one; null is unknown.
    """

    SAMPLE_S = 10

    source = models.ForeignKey(Source, on_delete=models.CASCADE, related_name="samples")
    resolution_s = models.PositiveIntegerField(default=SAMPLE_S)
    at = models.DateTimeField()
    values = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["source", "resolution_s", "at"], name="one_sample_a_moment"
            )
        ]

    def __str__(self) -> str:
        return f"{self.source} at {self.at:%Y-%m-%d %H:%M:%S}"


class Turn(models.Model):
    """A job that is done by turns, by one worker at a time: when it was done last, and who has it.

    In the database and not in Redis, since what it is about is often that Redis is away.
    """

    job = models.CharField(max_length=40, unique=True)
    held_until = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.job
