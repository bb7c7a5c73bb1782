"""Numbers and times as people read them: units, thousands, three digits; the exact one on hover."""

from __future__ import annotations

import math
from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

register = template.Library()


@register.filter
def figure(value: float | None, unit: str = "") -> str:
    """Three digits that mean something: ``0.00123``, ``12.3 us``, ``1,234,567 bytes``."""
    if value is None:
        return ""
    if value == 0 or not math.isfinite(value):
        text = f"{value:g}"
    else:
        digits = max(0, 2 - math.floor(math.log10(abs(float(f"{value:.2e}")))))
        text = f"{value:,.{digits}f}"
        if "." in text:
            text = text.rstrip("0").rstrip(".") if value == int(value) else text
    return f"{text} {unit}".rstrip()


@register.filter
def chance(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


@register.filter
def ago(at: datetime | None) -> SafeString:
    """``3 hours ago``, with the exact time on hover and for programs."""
    if at is None:
        return SafeString("")
    local = timezone.localtime(at)
    now = timezone.now()
    said = timesince(at, now).split(",")[0]
    words = f"{said} ago" if at <= now else f"in {timesince(now, at).split(',')[0]}"
    if (now - at).total_seconds() < 60 and at <= now:
        words = "just now"
    return format_html(
        '<time datetime="{}" title="{}" class="whitespace-nowrap">{}</time>',
        local.isoformat(),
        exact(at),
        words,
    )


@register.filter
def exact(at: datetime | None) -> str:
    return timezone.localtime(at).strftime("%d %b %Y, %H:%M:%S %Z") if at else ""


@register.filter
def lasted(start: datetime | None, end: datetime | None = None) -> str:
    """``1 min 5 s``."""
    if start is None:
        return ""
    seconds = round(((end or timezone.now()) - start).total_seconds())
    minutes, seconds = divmod(max(0, seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (seconds, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


@register.filter
def figure_count(number: int) -> str:
    """``10,000``."""
    return f"{number:,}"
