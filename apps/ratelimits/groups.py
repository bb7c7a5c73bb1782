"""The groups that migrations make, and what they are given: once, and staff's to edit from then on.

A migration runs before its permissions exist (``post_migrate`` makes them): those that it gives are
made here, as ``post_migrate`` would, which then finds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.apps import apps as installed
from django.contrib.auth import get_permission_codename
from django.db import DEFAULT_DB_ALIAS

VIEWERS, EDITORS, PUBLISHERS = "Rate limit viewers", "Rate limit editors", "Rate limit publishers"


def make(apps: Any, rights: Mapping[str, Iterable[str]], *, using: str = DEFAULT_DB_ALIAS) -> None:
    """Add to groups, by name, permissions such as ``ratelimits.view_ratelimit``; a group that is
    not there is made. ``apps``: the migration's. What is of no installed app or model is left out.
    """
    group = apps.get_model("auth", "Group")
    for name, wanted in rights.items():
        row, _ = group.objects.using(using).get_or_create(name=name)
        row.permissions.add(*permissions(apps, wanted, using=using))


def permissions(apps: Any, wanted: Iterable[str], *, using: str = DEFAULT_DB_ALIAS) -> list[Any]:
    """The rows of those that can be, made where they are not there."""
    return [row for name in wanted if (row := _permission(apps, name, using))]


def _permission(apps: Any, wanted: str, using: str) -> Any:
    app, _, codename = wanted.partition(".")
    if not (found := _model_of(app, codename)):
        return None
    model, label = found
    types = apps.get_model("contenttypes", "ContentType").objects.using(using)
    kind, _ = types.get_or_create(app_label=app, model=model)
    rows = apps.get_model("auth", "Permission").objects.using(using)
    return rows.get_or_create(content_type=kind, codename=codename, defaults={"name": label})[0]


def _model_of(app: str, codename: str) -> tuple[str, str] | None:
    """Whose permission it is, and what it is called."""
    if app not in installed.app_configs:
        return None
    for model in installed.get_app_config(app).get_models():
        options = model._meta
        labels = dict(options.permissions)
        for verb in options.default_permissions:
            labels[get_permission_codename(verb, options)] = (
                f"Can {verb} {options.verbose_name_raw}"
            )
        if codename in labels:
            return str(options.model_name), str(labels[codename])
    return None
