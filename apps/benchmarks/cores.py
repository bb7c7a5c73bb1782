"""Client and server on one core, where the system lets us say so.

Across two cores a round trip costs several times as much, and what is compared drowns in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def usable() -> list[int]:
    """The cores this process may use, in order; empty where the system does not tell (macOS)."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run on ``core`` and let what is started meanwhile inherit it; None changes nothing."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
