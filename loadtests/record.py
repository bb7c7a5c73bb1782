"""What is known of a load test, in one process or of all: workers send it, the master adds it up.

No I/O, no locust.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from . import edits, together
from .edits import Seen
from .promises import Promise
from .together import Together

MOST_KINDS = 50
"""Of what is wrong: further ones are counted with the last."""
MAX_CHARS = 300


@dataclass(slots=True)
class Tally:
    """Of one limit: requests, and how many identities it was seen to count apart."""

    admitted: int = 0
    denied: int = 0
    identities: int = 0


@dataclass(slots=True)
class Record:
    """``wrong``: how often, and the first example, by what it is about."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    together: dict[tuple[str, str], Together] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    wrong: dict[str, tuple[int, str]] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    lags_ms: dict[int, int] = field(default_factory=dict)

    def is_wrong(self, about: str, example: str, number: int = 1) -> None:
        if about not in self.wrong and len(self.wrong) >= MOST_KINDS:
            about = "more"
        before, first = self.wrong.get(about, (0, example[:MAX_CHARS]))
        self.wrong[about] = before + number, first

    def note(self, text: str, number: int = 1) -> None:
        self.notes[text] = self.notes.get(text, 0) + number

    def tally(self, name: str) -> Tally:
        return self.tallies.setdefault(name, Tally())

    def message(self) -> dict[str, Any]:
        return {
            "tallies": {
                name: [one.admitted, one.denied, one.identities]
                for name, one in self.tallies.items()
            },
            "together": [[*whose, one.message()] for whose, one in self.together.items()],
            "seen": {name: one.message() for name, one in self.seen.items()},
            "wrong": {about: list(told) for about, told in self.wrong.items()},
            "notes": dict(self.notes),
            "lags_ms": list(self.lags_ms.items()),
        }

    def add(self, message: Mapping[str, Any]) -> None:
        for name, (admitted, denied, identities) in message["tallies"].items():
            tally = self.tally(name)
            tally.admitted += admitted
            tally.denied += denied
            tally.identities += identities
        for name, identity, more in message["together"]:
            self.together.setdefault((name, identity), Together()).add(more)
        for name, more in message["seen"].items():
            self.seen.setdefault(name, Seen()).add(more)
        for about, (number, example) in message["wrong"].items():
            self.is_wrong(about, example, number)
        for text, number in message["notes"].items():
            self.note(text, number)
        for ms, number in message["lags_ms"]:
            self.lags_ms[ms] = self.lags_ms.get(ms, 0) + number

    def lag_ms(self, percent: float) -> float:
        """How late locust came to its own work: the percentile, 0 where nothing is known."""
        total, seen = sum(self.lags_ms.values()), 0
        for ms in sorted(self.lags_ms):
            seen += self.lags_ms[ms]
            if seen * 100 >= total * percent:
                return float(ms)
        return 0.0

    def judge_shared(
        self, promises: Mapping[str, Promise], skew_s: float, *, alone: bool = True
    ) -> None:
        """What only the counts of all workers can tell. Once, at the end. ``alone``: nobody else
        asks the site, else what everyone shares may have been used up by others."""
        for (name, identity), found in sorted(self.together.items()):
            tally = self.tally(name)
            tally.admitted += found.admissions
            tally.denied += sum(found.denials.values())
            tally.identities += 1
            promise = promises[name] if alone else replace(promises[name], exact=False)
            for text in together.judge(promise, found, skew_s):
                self.is_wrong(f"{name}, {identity}", text)
        for name, seen in sorted(self.seen.items()):
            self.tally(name).admitted += sum(seen.quotas.values())
            for text in edits.judge(name, int(promises[name].quota), seen, skew_s):
                self.is_wrong(f"{name}, edited", text)
