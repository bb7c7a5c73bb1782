"""What is asked for and carried out by a worker: its row, from the request to the end."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone


class Work(models.Model):
    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        STOPPED = "stopped", "Stopped"
        LOST = "lost", "Lost"

    WAITING = (State.QUEUED, State.RUNNING)

    state = models.CharField(max_length=8, choices=State.choices, default=State.QUEUED)
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
    note = models.TextField(blank=True)

    class Meta:
        abstract = True
        ordering = ["-queued_at", "-pk"]

    @property
    def waits(self) -> bool:
        return self.state in self.WAITING

    @property
    def stopping(self) -> bool:
        """Its worker is still at it: nobody else may begin until it has let go."""
        return self.stop_asked and self.state == self.State.RUNNING

    @property
    def shown_state(self) -> str:
        return "Stopping" if self.stopping else str(self.State(self.state).label)

    def stop(self) -> None:
        """One that runs keeps its place until its worker has let go: the next one would measure it
        too. Raises ValueError once it has ended."""
        row = type(self)._default_manager.filter(pk=self.pk)
        waiting, running = row.filter(state=self.State.QUEUED), row.filter(state=self.State.RUNNING)
        stopped = waiting.update(state=self.State.STOPPED, ended_at=timezone.now())
        if not (stopped or running.update(stop_asked=True)):
            raise ValueError(f"There is nothing to stop: {self} has ended.")
