"""Numbers and times of the clean-up as people read them; the exact time on hover."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from ..models import SweepRun

register = template.Library()


@register.filter
def thousands(number: int) -> str:
    return f"{number:,}"


@register.filter
def since(at: datetime | None) -> SafeString:
    """``3 hours ago``."""
    if at is None:
        return SafeString("")
    local = timezone.localtime(at)
    words = f"{timesince(at).split(',')[0]} ago"
    if (timezone.now() - at).total_seconds() < 60:
        words = "just now"
    exact = local.strftime("%d %b %Y, %H:%M:%S %Z")
    return format_html('<time datetime="{}" title="{}">{}</time>', local.isoformat(), exact, words)


@register.filter
def took(began: datetime, ended: datetime | None) -> str:
    """``0.4 s``, ``1 min 5 s``, ``2 h 3 min``; to now where it has not ended."""
    seconds = ((ended or timezone.now()) - began).total_seconds()
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (0 if hours else rest_s, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


@register.filter(name="else")
def what_else(run: SweepRun) -> str:
    """Why it ended as it did, and what was rare."""
    said = [run.error] if run.error else []
    said += run.failed_places
    for number, words in (
        (run.entries, "stale log entries"),
        (run.abandoned, "slots past their lease"),
        (run.bounded, "keys without an end got one"),
        (run.overrides, "old overrides"),
        (run.left, "left as they are"),
    ):
        if number:
            said.append(f"{number:,} {words}")
    if run.state == SweepRun.State.DONE and not run.is_last:
        said.append("to be continued")
    return "; ".join(said)
