"""One answer against everything that is promised: admissions, denials, remaining units, edits.

No I/O, no clock, no locust.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .edits import Edit, Seen
from .ledgers import Ledger, ledger
from .promises import Promise, Who
from .record import Record
from .together import Together

STANDING = re.compile(r'"([^"]+)";r=(\d+)')
POLICY = re.compile(r'"([^"]+)";q=(\d+)(?:;w=(\d+))?')
DENIED, UNAVAILABLE = 429, 503


@dataclass(frozen=True, slots=True)
class Answer:
    """``sent_s`` and ``answered_s`` of ``time.time()``; ``policies`` and ``standings`` are the
    fields RateLimit-Policy and RateLimit; ``body`` only where it was denied."""

    method: str
    path: str
    sent_s: float
    answered_s: float
    status: int
    policies: str = ""
    standings: str = ""
    body: bytes = b""


class Answers:
    """Of one process. ``edited``: limits whose quota somebody changes during the load.

    Without ``promises`` what RateLimit-Policy says is taken for one, by any algorithm: then
    admissions alone are checked, each user's by itself.
    """

    def __init__(
        self, promises: Mapping[str, Promise], *, skew_s: float, edited: Sequence[str] = ()
    ) -> None:
        self.promises, self.skew_s = promises, skew_s
        self.edited = frozenset(edited)
        self.record = Record()
        self._ledgers: dict[tuple[str, str], Ledger] = {}

    def taken(self) -> Record:
        """What has come together since the last time; ledgers stay."""
        taken, self.record = self.record, Record()
        return taken

    def edit(self, name: str, edit: Edit) -> None:
        self.record.seen.setdefault(name, Seen()).edits.append(edit)

    def unanswered(self, who: Who, method: str, path: str, sent_s: float, at_s: float) -> None:
        """It may have been counted, by whatever counts such requests."""
        for promise in self.promises.values():
            if not promise.possible_of(method, path):
                continue
            if promise.checked and promise.name not in self.edited:
                identity, own = who.identity(promise.counted_by)
                if own:
                    self._ledger(promise, identity).unanswered(sent_s, at_s)
                else:
                    self._together(promise, identity).unanswered(sent_s, at_s)

    def answered(self, who: Who, answer: Answer) -> str:
        """What is wrong with it, or an empty text."""
        if answer.status == DENIED:
            wrong = self._denied(who, answer)
        elif answer.status == UNAVAILABLE or not answer.status:
            self.unanswered(who, answer.method, answer.path, answer.sent_s, answer.answered_s)
            return ""  # An error of itself.
        else:
            wrong = self._admitted(who, answer)
        about, text = wrong
        if text:
            self.record.is_wrong(about, text)
        return text

    def _admitted(self, who: Who, answer: Answer) -> tuple[str, str]:
        wrong = "", ""
        named = policies(answer.policies)
        counted = {name: int(r) for name, r in STANDING.findall(answer.standings)}
        for name, remaining in counted.items():
            promise = self._promise(name, named)
            if promise is None:
                continue
            if name in self.edited:
                self._named(name, named, answer)
                continue
            identity, own = who.identity(promise.counted_by)
            if not self.promises:
                identity, own = f"user {id(who)} of the load", True
            if not own:
                self._together(promise, identity).admitted(answer.sent_s, answer.answered_s)
                continue
            self.record.tally(name).admitted += 1
            found = self._ledger(promise, identity)
            text = found.admitted(answer.sent_s, answer.answered_s, remaining)
            if text and not wrong[1]:
                wrong = f"{name} admitted or counted wrongly", f"{text} ({identity})"
        for promise in self.promises.values():
            if promise.name not in counted and promise.expected_of(who, answer.method, answer.path):
                text = f"{promise.name} did not count {answer.method} {answer.path}"
                return f"{promise.name} did not count", text
        return wrong

    def _denied(self, who: Who, answer: Answer) -> tuple[str, str]:
        violated = violated_policies(answer.body)
        if not violated:
            return "a denial without a limit", "a 429 that names no limit that was violated"
        named = policies(answer.policies)
        texts = []
        for name in violated:
            promise = self._promise(name, named)
            if promise is None or not self.promises:
                self.record.tally(name).denied += 1
                return "", ""  # Nothing is known of it.
            if name in self.edited:
                self._named(name, named, answer)
                texts.append(f"{name} denied, whose quota nobody can have used up")
                continue
            identity, own = who.identity(promise.counted_by)
            if not own:
                # The end tells.
                self._together(promise, identity).denied(answer.sent_s, answer.answered_s)
                return "", ""
            self.record.tally(name).denied += 1
            text = self._ledger(promise, identity).denied(answer.sent_s, answer.answered_s)
            if not text or not promise.exact:
                return "", ""
            texts.append(f"{text} ({identity})")
        return f"{violated[0]} denied unduly", texts[0]

    def _named(self, name: str, named: Mapping[str, tuple[int, int]], answer: Answer) -> None:
        seen = self.record.seen.setdefault(name, Seen())
        seen.named(named[name][0], answer.sent_s, answer.answered_s)

    def _promise(self, name: str, named: Mapping[str, tuple[int, int]]) -> Promise | None:
        """None where its counts cannot be seen from outside."""
        if self.promises:
            promise = self.promises.get(name)
            if promise is None:
                self.record.note(f"{name} is in no file: not checked")
            elif not promise.checked and name not in self.edited:
                self.record.note(f"{name} counts by what cannot be seen from outside: not checked")
                return None
            return promise
        quota, window_s = named.get(name, (0, 0))
        if not quota or not window_s:
            return None
        # In any span two windows' quotas and what comes free in it: true of every algorithm.
        return Promise(name, "token_bucket", quota, window_s, 2 * quota, (), exact=False)

    def _ledger(self, promise: Promise, identity: str) -> Ledger:
        whose = promise.name, identity
        found = self._ledgers.get(whose)
        if found is None:
            found = self._ledgers[whose] = ledger(promise, self.skew_s)
            self.record.tally(promise.name).identities += 1
        return found

    def _together(self, promise: Promise, identity: str) -> Together:
        whose = promise.name, identity
        found = self.record.together.get(whose)
        if found is None:
            found = self.record.together[whose] = Together()
        return found


@lru_cache(maxsize=4_096)
def policies(field: str) -> Mapping[str, tuple[int, int]]:
    """Quota and window in s, 0 where it is not said, by name."""
    return {name: (int(q), int(w or 0)) for name, q, w in POLICY.findall(field)}


def violated_policies(body: bytes) -> list[str]:
    try:
        names = json.loads(body)["violated-policies"]
    except (ValueError, KeyError, TypeError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []
