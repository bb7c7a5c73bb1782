"""A confirmed regression is mailed to the site's admins, once."""

from __future__ import annotations

import logging

from django.core.mail import mail_admins
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from .models import Regression

BATCH = 50
"""Regressions in one mail; the next call tells the rest."""

log = logging.getLogger(__name__)


def tell() -> int:
    """Mails what is confirmed and was not told; returns how many were. Nothing to tell: no mail.

    Marked first and mailed after, so that two workers never tell the same. Where the mail cannot
    be handed over the mark is taken back, and the next call (a periodic one) tries again.
    """
    with transaction.atomic():
        waiting = Regression.objects.filter(state=Regression.State.CONFIRMED, told_at=None)
        found = list(
            waiting.select_for_update(of=("self",)).select_related("metric", "machine")[:BATCH]
        )
        told = Regression.objects.filter(pk__in=[regression.pk for regression in found])
        told.update(told_at=timezone.now())
    if not found:
        return 0
    try:
        mail_admins(_subject(found), "\n\n".join(map(_paragraph, found)) + "\n")
    except OSError:  # smtplib's errors are such, too
        log.warning("%d confirmed regressions could not be mailed", len(found), exc_info=True)
        told.update(told_at=None)
        return 0
    return len(found)


def path(regression: Regression) -> str:
    """Of its page in the admin."""
    return f"{reverse('admin:index')}benchmarks/regression/{regression.pk}/change/"


def _subject(found: list[Regression]) -> str:
    if len(found) == 1:
        return f"Benchmark {found[0].metric}: {found[0].evidence['sentence']}"
    better = sum(regression.better for regression in found)
    return f"Benchmarks: {len(found) - better} worse, {better} better, confirmed"


def _paragraph(regression: Regression) -> str:
    evidence, unit = regression.evidence, regression.metric.unit
    where = f"{regression.machine}, branch {regression.branch or 'unknown'}"
    lines = [
        f"{regression.metric}: {evidence['sentence']}",
        f"  {_figure(evidence['baseline_median'])} {unit} -> "
        f"{_figure(evidence['new_median'])} {unit} ({where})",
        f"  medians of {evidence['new_n']} runs against {evidence['n']}, p = "
        f"{evidence['adjusted_p']:.2g}, for all that was judged with it",
    ]
    if regression.run and regression.run.commit:
        lines.append(f"  first seen in {regression.run}, commit {regression.run.commit[:12]}")
    return "\n".join([*lines, f"  {path(regression)}"])


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.4g}"
