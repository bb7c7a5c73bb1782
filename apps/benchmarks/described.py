"""What a tool's file does not say of a run, and whoever imports it knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .exchange import Found
from .revision import Revision


def described(
    found: Found,
    parameters: Mapping[str, Any],
    *,
    note: str = "",
    code: Revision | None = None,
    **columns: Any,
) -> Found:
    """``parameters`` make its metrics others than those of other values; ``code`` is what was
    measured; ``columns`` are further ones of a BenchmarkRun."""
    about: dict[str, Any] = {**found.run, **columns}
    if note:
        about["note"] = note
    if code is not None:
        about |= {"branch": code.branch, "dirty": code.dirty}
    taken = [
        replace(
            one, metric={**one.metric, "parameters": {**one.metric["parameters"], **parameters}}
        )
        for one in found.taken
    ]
    return replace(found, commit=code.commit if code else found.commit, taken=taken, run=about)
