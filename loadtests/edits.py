"""An edit is law in every process within a second, also under load: which quota an answer may name.

The one who edits keeps when each save began and when it was answered; everybody keeps which quota
``RateLimit-Policy`` named, and when. No I/O, no clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

PROMISED_S = 1.0
BIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Edit:
    quota: int
    began_s: float
    answered_s: float


@dataclass(slots=True)
class Seen:
    """Of one limit. ``quotas``: how often each was named, by the bins of sending and answer."""

    edits: list[Edit] = field(default_factory=list)
    quotas: dict[tuple[int, int, int], int] = field(default_factory=dict)

    def named(self, quota: int, sent_s: float, answered_s: float) -> None:
        what = quota, math.floor(sent_s / BIN_S), math.floor(answered_s / BIN_S)
        self.quotas[what] = self.quotas.get(what, 0) + 1

    def message(self) -> dict[str, Any]:
        return {
            "edits": [[one.quota, one.began_s, one.answered_s] for one in self.edits],
            "quotas": [[*what, number] for what, number in self.quotas.items()],
        }

    def add(self, message: dict[str, Any]) -> None:
        self.edits += [Edit(*one) for one in message["edits"]]
        for quota, sent, answered, more in message["quotas"]:
            what = (quota, sent, answered)
            self.quotas[what] = self.quotas.get(what, 0) + more


def judge(name: str, first_quota: int, seen: Seen, skew_s: float = 0.0) -> list[str]:
    """What is wrong: a quota that was not yet, or no longer, in force."""
    spans = list(_spans(first_quota, sorted(seen.edits, key=lambda one: one.began_s)))
    wrong: dict[int, int] = {}
    for (quota, sent, answered), number in seen.quotas.items():
        sent_s, answered_s = sent * BIN_S - skew_s, (answered + 1) * BIN_S + skew_s
        if not any(
            one == quota and from_s <= answered_s and sent_s <= to_s for one, from_s, to_s in spans
        ):
            wrong[quota] = wrong.get(quota, 0) + number
    return [
        f"{name}: {number:,} answers named a quota of {quota:,} that was not in force then "
        f"(an edit is law within {PROMISED_S:.0f} s)"
        for quota, number in sorted(wrong.items())
    ]


def _spans(first_quota: int, edits: list[Edit]) -> Iterable[tuple[int, float, float]]:
    """Which quota may be named from when to when."""
    quota, from_s = first_quota, -math.inf
    for edit in edits:
        yield quota, from_s, edit.answered_s + PROMISED_S
        quota, from_s = edit.quota, edit.began_s
    yield quota, from_s, math.inf
