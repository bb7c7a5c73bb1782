"""What of an identity may be kept beside its digest, where ``IOTA_DENIED_NAMES`` allows names."""

from __future__ import annotations

from .storage.denied import Names
from .storage.denied_notes import MOST_NAME_CHARS

NAMED = ("address", "user")
"""Kinds whose value is kept; and whose an API key is. A session's would let its reader in, and a
view's argument may be anything."""


def names_of(parts: tuple[str, ...]) -> Names:
    """``parts`` as policy/identity.py gives them: kind, value, kind, value, ..."""
    return tuple(
        (kind[:MOST_NAME_CHARS], value[:MOST_NAME_CHARS])
        for kind, value in zip(parts[::2], parts[1::2], strict=True)
        if kind in NAMED or kind.startswith("header ")
    )
