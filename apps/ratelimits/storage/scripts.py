"""Loads ``lua/``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    source: str
    sha: str


PARTS = {
    "check": ("records", "quick", "buckets", "check"),
    "refund": ("records", "buckets", "refund"),
    "publish": ("publish",),
    "heartbeat": ("heartbeat",),
    "living": ("living",),
    "identities": ("identities",),
    "usage": ("usage",),
    "denied": ("denied",),
    "traffic": ("traffic",),
    "sweep_bucket": ("sweep_bucket",),
    "sweep_beside": ("sweep_beside",),
    "sweep_forever": ("sweep_forever",),
    "sweep_log": ("records", "buckets", "sweep_log"),
}
"""The files of ``lua/`` that make up a script, in their order."""


@cache
def load(name: str) -> Script:
    """The script of that name in ``PARTS``."""
    folder = files(__package__) / "lua"
    source = "\n".join((folder / f"{part}.lua").read_text() for part in PARTS[name])
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
