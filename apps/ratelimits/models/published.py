"""How an edit becomes known: the transaction it is saved in, and the version that it raises."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import models, transaction
from django.db.models import F, Q, Value
from django.db.models.functions import Greatest

from ..querysets import PublishedQuerySet
from ..signals import limits_changed

_held: ContextVar[list[Any] | None] = ContextVar("ratelimits_held", default=None)


@contextmanager
def one_edit() -> Iterator[list[Any]]:
    """Saves and deletions within are one: all or none, one version, published once after it.

    The list holds what was edited; whoever rolls it back empties it, and nothing is announced.
    """
    with transaction.atomic():
        RulesetVersion.hold()
        edits: list[Any] = []
        token = _held.set(edits)
        try:
            yield edits
        finally:
            _held.reset(token)
        if edits:
            limits_changed.send(sender=edits[0])


def is_held(sender: Any) -> bool:
    """Whether an edit is announced later, with others."""
    held = _held.get()
    if held is None:
        return False
    held.append(sender)
    return True


class PublishedModel(models.Model):
    """Saved and deleted in a transaction, in which ``receivers`` raise the ruleset's version."""

    objects = PublishedQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic():
            super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            return super().delete(*args, **kwargs)


class RulesetVersion(models.Model):
    """One row: raised in the transaction of each edit.

    At least the clock's microseconds, so that a database made anew, beside a Redis that still
    holds the old one's limits, is the newer.
    """

    ROW = 1

    version = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="ratelimits_one_version")]

    def __str__(self) -> str:
        return str(self.version)

    @classmethod
    def hold(cls) -> None:
        """One transaction edits at a time, from here to its end: the others wait here, and hold
        nothing yet."""
        if _held.get() is not None:
            return  # ``one_edit`` has it, for all that is saved within.
        with transaction.atomic(savepoint=False):
            cls.objects.select_for_update().get_or_create(pk=cls.ROW)

    @classmethod
    def raise_version(cls) -> None:
        """Inside the transaction of the edit that it announces."""
        cls.objects.get_or_create(pk=cls.ROW)
        now_us = time.time_ns() // 1000
        cls.objects.filter(pk=cls.ROW).update(version=Greatest(F("version") + 1, Value(now_us)))

    @classmethod
    def current(cls) -> int:
        return cls.objects.filter(pk=cls.ROW).values_list("version", flat=True).first() or 0
