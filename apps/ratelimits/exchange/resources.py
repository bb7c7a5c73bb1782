"""Limits and overrides as rows of a file, and how a row finds the one that it is about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tablib
from django.core.exceptions import ValidationError

from .. import raised
from ..models import Override, RateLimit
from ..models.entries import AT_ONCE
from ..policy.rules import IN_FORCE
from .changes import Change, Kind
from .formats import Unreadable
from .importing import Imported, PublishedResource

NOT_EXPORTED = {
    RateLimit: {
        "id": "another on each site: limits go by their names",
        "epoch": "how often this site began to count afresh",
        "created_at": "of this site",
        "updated_at": "of this site",
    },
    Override: {"id": "another on each site"},
}
"""Model -> field -> why it is no part of a file. Every other field is."""


class LimitResource(PublishedResource):
    class Meta(PublishedResource.Meta):
        model = RateLimit
        exclude = tuple(NOT_EXPORTED[RateLimit])
        import_id_fields = ()
        abstract = False

    ASKS_FOR = ("name",)
    RELATED = ("groups",)

    def sort_key(self, instance: RateLimit) -> Any:
        return instance.name

    def before_import(self, dataset: tablib.Dataset, **kwargs: Any) -> None:
        self._stored: dict[str, RateLimit] = {}
        self._quotas: dict[int | None, list[Override]] = {}
        super().before_import(dataset, **kwargs)
        names = [name for row in dataset.dict if (name := self._name_in(row)) is not None]
        for first in range(0, len(names), AT_ONCE):
            found = RateLimit.objects.filter(name__in=names[first : first + AT_ONCE])
            self._stored |= {limit.name: limit for limit in found.prefetch_related(*self.RELATED)}
        for override in Override.objects.filter(action=Override.Action.QUOTA):
            self._quotas.setdefault(override.limit_id, []).append(override)

    def _name_in(self, row: Mapping[str, Any]) -> str | None:
        try:
            return str(self.fields["name"].clean({"name": row.get("name")}))
        except ValueError:
            return None  # It is said when the row is read.

    def find(self, row: dict[str, Any]) -> RateLimit | None:
        name = self._name_in(row)
        if name in self._stored:
            # Another row of the same name finds it as it is then.
            return self._stored.pop(name)
        return None if name is None else RateLimit.objects.filter(name=name).first()

    def after_init_instance(self, instance: RateLimit, new: bool, row: Any, **kwargs: Any) -> None:
        own = self._quotas.get(instance.pk, []) if instance.pk else []
        every = self._quotas.get(None, [])
        instance.quota_overrides = sorted([*every, *own], key=lambda override: override.pk)
        super().after_init_instance(instance, new, row, **kwargs)

    def import_instance(self, instance: RateLimit, row: dict[str, Any], **kwargs: Any) -> None:
        super().import_instance(instance, row, **kwargs)
        is_same = instance.signal == self._was["signal"]
        if instance.signal and not is_same and instance.signal not in raised.known():
            raise ValidationError({
                "signal": f"No such signal is counted here: use {', '.join(raised.known())}, or "
                "name it in IOTA_COUNTED_SIGNALS."
            })  # fmt: skip

    def before_save_instance(self, instance: RateLimit, row: Any, **kwargs: Any) -> None:
        super().before_save_instance(instance, row, **kwargs)
        if instance.pk is not None and instance.algorithm != self._algorithm:
            # What one algorithm has counted means something else to another.
            instance.epoch += 1

    def _prune(self, **kwargs: Any) -> list[tuple[Change, Any]]:
        done = []
        left = RateLimit.objects.filter(mode__in=IN_FORCE).exclude(pk__in=self._row_of)
        for limit in left.prefetch_related(*self.RELATED):
            was = self.words(limit)
            limit.mode = RateLimit.Mode.OFF
            self._sign(limit, ": not in it", **kwargs)
            self._entries.save(limit)
            done.append((self._change(Kind.OFF, limit, was), limit))
        return done


class OverrideResource(PublishedResource):
    class Meta(PublishedResource.Meta):
        model = Override
        exclude = tuple(NOT_EXPORTED[Override])
        import_id_fields = ()
        abstract = False

    ASKS_FOR = ("action",)
    RELATED = ("limit", "user", "group")
    TARGET = ("limit", "user", "group", "network", "header", "key_of")
    """With ``until``, what tells one from another."""

    def sort_key(self, instance: Override) -> Any:
        words = self.words(instance)
        return [str(words[name] or "") for name in (*self.TARGET, "until", "action", "quota")]

    def name_of(self, instance: Override) -> str:
        return f"{instance} ({instance.limit.name if instance.limit else 'every limit'})"

    def before_import(self, dataset: tablib.Dataset, **kwargs: Any) -> None:
        self._before = list(Override.objects.all())
        super().before_import(dataset, **kwargs)
        if kwargs.get("prune"):
            raise Unreadable("Overrides cannot be pruned: each ends at its time, or is deleted.")

    def after_import(self, dataset: tablib.Dataset, result: Imported, **kwargs: Any) -> None:
        result.before = self._before
        super().after_import(dataset, result, **kwargs)

    def find(self, row: dict[str, Any]) -> Override | None:
        """Of several for the same limit and target, that with the same end, else the last."""
        blank = Override()
        try:
            wanted = {
                name: self.fields[name].clean(row) if name in row else getattr(blank, name)
                for name in (*self.TARGET, "until")
            }
        except ValueError:
            return None  # It is said when the row is read.
        until = wanted.pop("until")
        wanted["header__iexact"] = wanted.pop("header")
        found = sorted(Override.objects.filter(**wanted), key=_ends)
        free = [override for override in found if override.pk not in self._row_of]
        alike = [override for override in found if override.until == until]
        alike.sort(key=lambda override: override.pk in self._row_of)
        return next(iter([*alike, *reversed(free)]), None)


def _ends(override: Override) -> float:
    return override.until.timestamp() if override.until else math.inf


RESOURCES = {"limits": LimitResource, "overrides": OverrideResource}


def resource_of(dataset: tablib.Dataset) -> PublishedResource:
    """What the file's rows are of. Raises Unreadable."""
    for resource in RESOURCES.values():
        if not set(resource.ASKS_FOR).isdisjoint(dataset.headers or ()):
            return resource()
    if not len(dataset):
        return LimitResource()
    raise Unreadable("No row has a 'name' (of a limit) or an 'action' (of an override).")
