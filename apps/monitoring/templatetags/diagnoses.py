"""Findings in a page."""

from __future__ import annotations

import re

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

register = template.Library()


@register.filter
def commands(text: str) -> SafeString:
    """What stands between backticks is code; all of it is escaped first."""
    shown = re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
    return mark_safe(shown)  # noqa: S308
