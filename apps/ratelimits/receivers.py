"""Edits raise the version in their transaction; the new form is published on commit."""

from __future__ import annotations

import logging
from typing import Any

from django.db import transaction
from django.db.models.signals import (
    m2m_changed,
    post_delete,
    post_save,
    pre_delete,
    pre_save,
)
from django.dispatch import receiver

from .engine import get_engine
from .models import Override, RateLimit, RulesetVersion
from .models.published import is_held
from .signals import limits_changed, limits_changing
from .storage.errors import Unavailable

logger = logging.getLogger(__name__)


@receiver(limits_changing)
@receiver(pre_save, sender=RateLimit)
@receiver(pre_delete, sender=RateLimit)
@receiver(pre_save, sender=Override)
@receiver(pre_delete, sender=Override)
@receiver(m2m_changed, sender=RateLimit.groups.through)
def stand_in_line(sender: Any, **kwargs: Any) -> None:
    """Before any row is touched: two who edit the same rows in another order would else each wait
    for the other, and PostgreSQL would end one of them."""
    if kwargs.get("action", "pre_").startswith("pre_"):
        RulesetVersion.hold()


@receiver(limits_changed)
@receiver(post_save, sender=RateLimit)
@receiver(post_delete, sender=RateLimit)
@receiver(post_save, sender=Override)
@receiver(post_delete, sender=Override)
@receiver(m2m_changed, sender=RateLimit.groups.through)
def announce(sender: Any, **kwargs: Any) -> None:
    """Also for fixtures (``raw``): what is in the database is what is enforced."""
    if kwargs.get("action", "").startswith("pre_") or is_held(sender):
        return
    with transaction.atomic():
        RulesetVersion.raise_version()
        transaction.on_commit(publish, robust=True)


def publish() -> None:
    """A failure is left to the reconciling task; staff see it in the admin."""
    try:
        get_engine().publish()
    except Unavailable as error:
        logger.warning(
            "The limits are saved but not published: %s. The next reconciling does.", error
        )
