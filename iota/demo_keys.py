"""The demo's API keys: ``demo-1`` to ``demo-999``. A real site asks its own table of keys."""

from __future__ import annotations

import re


def whose_key(header: str, value: str) -> str | None:
    """``customer-7`` for the key ``demo-7``; None for any other text."""
    found = re.fullmatch(r"demo-([1-9][0-9]{0,2})", value)
    return f"customer-{found[1]}" if found else None
