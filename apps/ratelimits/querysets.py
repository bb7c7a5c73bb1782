"""Querysets whose bulk writes are not lost on the running site."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import models, transaction

from .signals import limits_changed, limits_changing

ModelT = TypeVar("ModelT", bound=models.Model)


class PublishedQuerySet(models.QuerySet[ModelT]):
    """``update``, ``bulk_create`` and ``bulk_update`` send no model signals: these say so."""

    def update(self, **kwargs: Any) -> int:
        with transaction.atomic(using=self.db):
            limits_changing.send(sender=self.model)
            count = super().update(**kwargs)
            self._changed()
        return count

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, *args: Any, **kwargs: Any) -> list[ModelT]:
        with transaction.atomic(using=self.db):
            limits_changing.send(sender=self.model)
            created = super().bulk_create(*args, **kwargs)
            self._changed()
        return created

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def _changed(self) -> None:
        limits_changed.send(sender=self.model)
