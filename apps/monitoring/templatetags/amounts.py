"""Values of metrics and times, as people read them; the exact time on hover."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from ..metrics import Unit
from ..wording import amount, of_metric

register = template.Library()
register.filter("of_metric", of_metric)


@register.filter
def moment(at: datetime | None) -> SafeString:
    """``3 hours ago``, ``in 2 hours``, ``just now``."""
    if at is None:
        return SafeString("")
    now = timezone.now()
    distance = (now - at).total_seconds()
    words = f"{timesince(at, now).split(',')[0]} ago"
    if distance < 0:
        words = f"in {timesince(now, at).split(',')[0]}" if distance < -60 else "within a minute"
    elif distance < 60:
        words = "just now"
    local = timezone.localtime(at)
    return format_html(
        '<time datetime="{}" title="{}" class="whitespace-nowrap">{}</time>',
        local.isoformat(),
        local.strftime("%d %b %Y, %H:%M:%S %Z"),
        words,
    )


@register.filter
def until(start: datetime | None, end: datetime | None) -> str:
    """How long it lasted."""
    if start is None or end is None:
        return ""
    return amount(max(0, round((end - start).total_seconds())), Unit.S)
