"""What is wrong among the answers to a load in whose middle there was a fault.

Before the fault, and from ``EXACT_WITHIN_S`` after it, every answer is known in advance: the n-th
request of an address is admitted while n is no more than the quota, and ``r`` counts down one by
one. While the fault lasts, an address that is new then meets the failure policy alone, which is
known too. What is between those (in flight, or counted partly in Redis and partly in a process)
is held against bounds: a denial must be due by one of the counts, and no status may be another's.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .load import Answer
from .site import ACROSS_QUOTA, BUCKET_QUOTA, BUCKET_WINDOW_S, QUOTA, SHARE

EXACT_WITHIN_S = 2.0
GRACE_S = 0.3
"""After a fault has begun, what was under way has ended."""
OPEN_AFTER_S = 0.6
"""After a fault has begun, the breakers are open."""

HICCUP_S = 0.045
"""An answer that took so long may be a failure policy's without a fault of ours: on a machine
that is busy otherwise, a process may be held up for longer than a check waits."""

INEXACT = "not exact"
UNASKED_503 = "503 that no policy asked for"

EXACT_KINDS = ("local", "allow", "deny")
DENYING_KINDS = ("deny", "across")


@dataclass(frozen=True, slots=True)
class Times:
    """Of a fault, by time.monotonic(): its beginning and its end each take a while."""

    begins_s: float
    begun_s: float
    ends_s: float
    ended_s: float
    within_s: float = EXACT_WITHIN_S
    """After the end, until every answer is to be exact."""

    @property
    def exact_from_s(self) -> float:
        return self.ended_s + self.within_s


@dataclass(frozen=True, slots=True)
class Wrong:
    why: str
    answer: Answer

    def __str__(self) -> str:
        a = self.answer
        said = f"status {a.status}, r={a.remaining}, {1_000 * a.took_s:.0f} ms {a.error}"
        return f"{self.why}: {a.kind} number {a.number}, {said}"

    @property
    def inexact(self) -> bool:
        """Whether a machine that held a process up for a timeout would explain it."""
        return self.why == INEXACT or (
            self.why == UNASKED_503 and self.answer.kind in DENYING_KINDS
        )


@dataclass(slots=True)
class Judge:
    """``disables``, ``keeps``: see Fault."""

    times: Times
    disables: bool
    keeps: bool
    _wrong: dict[Answer, str] = field(default_factory=dict)

    def all(self, answers: Iterable[Answer]) -> list[Wrong]:
        """Each wrong answer once, with the first reason that was found."""
        for of_one in sequences(answers).values():
            for answer in of_one:
                self._status(answer)
            kind = of_one[0].kind
            if kind == "bucket":
                for wrong in bucket_errors(of_one, self.times):
                    self._say(wrong.why, wrong.answer)
            elif kind == "across":
                self._across(of_one)
            elif kind in EXACT_KINDS:
                self._exact(of_one)
        return [Wrong(why, answer) for answer, why in self._wrong.items()]

    def _say(self, why: str, answer: Answer) -> None:
        self._wrong.setdefault(answer, why)

    def _undisturbed(self, answer: Answer) -> bool:
        if answer.took_s >= HICCUP_S:
            return False
        return answer.received_s < self.times.begins_s or answer.sent_s > self.times.exact_from_s

    def _in_fault(self, answer: Answer) -> bool:
        begun_s = self.times.begun_s + GRACE_S
        return self.disables and begun_s < answer.sent_s and answer.received_s < self.times.ends_s

    def _status(self, answer: Answer) -> None:
        """What is wrong whatever else is known."""
        denies = answer.kind in DENYING_KINDS
        if answer.status == 0:
            self._say("no answer", answer)
        elif answer.status not in (200, 429, 503, 404 if answer.kind == "missing" else 200):
            self._say("not a status of the limiter's", answer)
        elif answer.status == 503 and (not denies or self._undisturbed(answer)):
            self._say(UNASKED_503, answer)
        elif not answer.explained:
            self._say("denied without Retry-After or problem type", answer)
        elif answer.status == 429 and not _due(answer):
            self._say("denied within the quota", answer)
        elif self._in_fault(answer):
            # Who was denied before is denied from memory.
            remembered = answer.status == 429 and answer.number > _quota(answer)
            if denies and answer.status != 503 and not remembered:
                self._say("not 503, though Redis is away", answer)
            if answer.kind == "allow" and answer.status != 200 and not remembered:
                self._say("not allowed, though Redis is away", answer)

    def _exact(self, of_one: Sequence[Answer]) -> None:
        if self._undisturbed_all(of_one):
            for answer in of_one:
                if not is_exact(answer):
                    self._say(INEXACT, answer)
        elif all(self._in_fault(answer) for answer in of_one) and of_one[0].kind == "local":
            for process in {answer.process for answer in of_one}:
                own = [answer for answer in of_one if answer.process == process]
                for number, answer in enumerate(own, 1):
                    if (answer.status == 200) is not (number <= SHARE):
                        self._say(f"not the process's share of {SHARE}", answer)

    def _undisturbed_all(self, of_one: Sequence[Answer]) -> bool:
        if any(answer.took_s >= HICCUP_S for answer in of_one):
            return False
        first_s, last_s = of_one[0].sent_s, of_one[-1].received_s
        return last_s < self.times.begins_s or first_s > self.times.exact_from_s

    def _across(self, of_one: Sequence[Answer]) -> None:
        """A limit that denies while Redis is away admits its quota, whatever happens."""
        most = ACROSS_QUOTA if self.keeps else 2 * ACROSS_QUOTA
        admitted = [answer for answer in of_one if answer.status == 200]
        for answer in admitted[most:]:
            self._say(f"over the quota of {most} across the fault", answer)
        for answer in itertools.takewhile(self._undisturbed, of_one):
            if not is_exact(answer):
                self._say(INEXACT, answer)


def sequences(answers: Iterable[Answer]) -> dict[tuple[str, str, str], list[Answer]]:
    """The answers of each address, in their order."""
    found: defaultdict[tuple[str, str, str], list[Answer]] = defaultdict(list)
    for answer in answers:
        found[answer.site, answer.kind, answer.who].append(answer)
    return found


def _quota(answer: Answer) -> int:
    return ACROSS_QUOTA if answer.kind == "across" else QUOTA


def _due(answer: Answer) -> bool:
    """Whether some count of this address can have reached its end."""
    if answer.kind not in (*EXACT_KINDS, "across"):
        return True
    least = SHARE if answer.kind == "local" else _quota(answer)
    return answer.number > least


def is_exact(answer: Answer) -> bool:
    left = _quota(answer) - answer.number
    return answer.status == (200 if left >= 0 else 429) and answer.remaining == max(0, left)


def exact_after_s(answers: Iterable[Answer], times: Times) -> float:
    """Seconds from the fault's end until every new address is counted exactly."""
    started = [s for s in sequences(answers).values() if s[0].kind in EXACT_KINDS]
    started = sorted((s for s in started if s[0].sent_s > times.ended_s), key=lambda s: s[0].sent_s)
    exact = [all(map(is_exact, s)) for s in started]
    since = len(exact) - exact[::-1].index(False) if False in exact else 0
    return started[since][0].sent_s - times.ended_s if since < len(started) else math.inf


def bucket_errors(of_one: Sequence[Answer], times: Times) -> list[Wrong]:
    """A token bucket's answers against what no order of events could explain.

    When a request is decided is known to lie between its sending and its answer; those of the
    fault, which may have been charged without an answer, between their sending and just after its
    end.
    """
    rate, wrong = BUCKET_QUOTA / BUCKET_WINDOW_S, []
    spans = (-math.inf, times.begins_s), (times.exact_from_s, math.inf)
    for start_s, end_s in spans:
        inside = [a for a in of_one if start_s < a.sent_s and a.received_s < end_s]
        # Of any run of admissions: no more than the capacity and what flowed in meanwhile.
        most = -math.inf
        for number, answer in enumerate(a for a in inside if a.status == 200):
            most = max(most, rate * answer.sent_s - number)
            if number + 1 + most - rate * answer.received_s > BUCKET_QUOTA + 1e-6:
                wrong.append(Wrong("more than the bucket holds", answer))
        for answer in inside:
            if answer.status == 429 and _debt(of_one, answer, times) + 1 <= BUCKET_QUOTA - 1e-6:
                wrong.append(Wrong("denied though the bucket has some", answer))
    return wrong


def _debt(of_one: Sequence[Answer], answer: Answer, times: Times) -> float:
    """The most that can have been taken and not have flowed in again when it was decided."""
    debt, at_s = 0.0, -math.inf
    for earlier in of_one[: answer.number - 1]:
        late = times.begins_s < earlier.received_s and earlier.sent_s < times.exact_from_s
        if late or earlier.status == 200:
            until_s = max(earlier.received_s, times.ended_s + 0.5) if late else earlier.received_s
            until_s = max(until_s, at_s)
            debt = max(0.0, debt - (until_s - at_s) * BUCKET_QUOTA / BUCKET_WINDOW_S) + 1
            at_s = until_s
    return max(0.0, debt - (answer.sent_s - at_s) * BUCKET_QUOTA / BUCKET_WINDOW_S)


def percentile(values: Sequence[float], part: float) -> float:
    """NaN of none."""
    ordered = sorted(values)
    return (
        ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)] if ordered else math.nan
    )
