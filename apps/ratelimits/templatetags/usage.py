"""Numbers of a limit's usage as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta

from django import template
from django.utils import timezone

register = template.Library()


@register.filter
def span(length: timedelta) -> str:
    """``minute``, ``15 minutes``, ``6 hours``."""
    minutes = round(length.total_seconds() / 60)
    number, unit = (minutes // 60, "hour") if minutes % 60 == 0 else (minutes, "minute")
    return unit if number == 1 else f"{number} {unit}s"


@register.filter
def us(mean_us: float | None) -> str:
    """``180 us``, ``2.4 ms``; a dash where there was no check."""
    if mean_us is None:
        return "-"
    return f"{mean_us:,.0f} µs" if mean_us < 1_000 else f"{mean_us / 1_000:,.1f} ms"


@register.filter
def percent(number: int, of: int) -> str:
    """``12.4 %``; what is not nothing is never told as nothing."""
    if not of:
        return "-"
    share = 100 * number / of
    return "< 0.1 %" if 0 < share < 0.1 else f"{share:.1f} %"


@register.filter
def exact(at: datetime) -> str:
    return timezone.localtime(at).strftime("%d %b %Y, %H:%M:%S %Z")
