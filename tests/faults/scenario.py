"""One fault in the middle of a load: what was measured, and which targets were missed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from .answers import EXACT_WITHIN_S, OPEN_AFTER_S, Judge, Times, Wrong, exact_after_s, percentile
from .faults import Fault, Ground
from .load import Answer, Load
from .report import Row
from .site import Site

BEFORE_S = 1.0
AFTER_S = EXACT_WITHIN_S + 1.0
BASE_S = 6.0
BASE_PARTS = 3
TIMEOUT_S = 0.050
"""IOTA_REDIS_TIMEOUT_MS: what a request may pay."""
ALLOWANCE_S = 0.150
"""For a machine of two cores, on which servers, sites and load take turns and others may work
too: without a fault a request of some thousands waits so long there."""
MOST_PLAYS = 5
NEVER = Times(*[math.inf] * 4)
OPEN_ALLOWANCE_S = 0.040
"""The same, of a p99: the target is 1 ms."""


@dataclass(slots=True)
class Base:
    p99_s: float
    longest_s: float


@dataclass(slots=True)
class Stage:
    """What scenarios are played on, one after the other."""

    ground: Ground
    sites: Sequence[Site]
    base: dict[str, Base] = field(default_factory=dict)

    def load(self) -> Load:
        return Load([site.target for site in self.sites]).start()


@dataclass(slots=True)
class Outcome:
    """``rows``: one for each site; ``missed``: the targets that were, in words. ``certain``: a
    machine that was busy otherwise would not explain them."""

    rows: list[Row] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    certain: bool = False


def measure_base(stage: Stage, name: str) -> list[Row]:
    """Without a fault: the latency of the sites and of the load itself."""
    for plays in range(1, MOST_PLAYS + 1):
        answers, begun_s = _without_fault(stage)
        rows, wrong = [], []
        for site in stage.sites:
            own = [answer for answer in answers if answer.site == site.interface]
            wrong += Judge(NEVER, disables=False, keeps=True).all(own)
            base = stage.base[site.interface] = _usual(own, begun_s)
            nan = math.nan
            rows.append(
                Row(
                    name,
                    site.interface,
                    plays,
                    len(own),
                    0,
                    0,
                    base.p99_s,
                    nan,
                    base.longest_s,
                    nan,
                )
            )
        if not wrong:
            return rows
    raise AssertionError(f"without a fault {len(wrong)} answers are wrong, such as {wrong[0]}")


def _usual(answers: Sequence[Answer], begun_s: float) -> Base:
    """The middle of three parts of a load, each as long as a fault: what else the machine had to do
    for a moment is not to excuse a fault, nor is a moment of rest to blame one."""
    parts: list[list[float]] = [[] for _ in range(BASE_PARTS)]
    for answer in answers:
        part = int((answer.sent_s - begun_s) // (BASE_S / BASE_PARTS))
        if 0 <= part < BASE_PARTS:
            parts[part].append(answer.took_s)
    bases = sorted((percentile(took, 0.99), max(took)) for took in parts)
    return Base(*bases[len(bases) // 2])


def _without_fault(stage: Stage) -> tuple[list[Answer], float]:
    load = stage.load()
    time.sleep(0.5)  # The first requests of a process import and compile.
    begun_s = time.monotonic()
    time.sleep(BASE_S)
    return load.stop(), begun_s


def play(stage: Stage, fault: Fault) -> Outcome:
    """Again where a target was missed that a busy machine may miss; the row says how often."""
    for plays in range(1, MOST_PLAYS + 1):
        outcome = play_once(stage, fault, plays)
        if not outcome.missed or outcome.certain:
            break
    return outcome


def play_once(stage: Stage, fault: Fault, plays: int = 1) -> Outcome:
    load = stage.load()
    try:
        time.sleep(BEFORE_S)
        times = suffer(stage.ground, fault)
        time.sleep(AFTER_S)
    finally:
        answers = load.stop()
    return judge(stage, fault, times, answers, plays)


def judge(
    stage: Stage, fault: Fault, times: Times, answers: Sequence[Answer], plays: int = 1
) -> Outcome:
    outcome = Outcome()
    for site in stage.sites:
        usual = stage.base[site.interface]
        own = [answer for answer in answers if answer.site == site.interface]
        row, wrong = measure(own, fault, times, usual, plays)
        outcome.rows.append(row)
        outcome.missed += missed(row, wrong, usual, times)
        outcome.certain |= not all(one.inexact for one in wrong)
    return outcome


def suffer(ground: Ground, fault: Fault) -> Times:
    begins_s = time.monotonic()
    fault.begin(ground)
    begun_s = time.monotonic()
    if not fault.lasts_s:
        return Times(begins_s, begun_s, begun_s, begun_s)
    time.sleep(fault.lasts_s)
    ends_s = time.monotonic()
    fault.end(ground)
    return Times(begins_s, begun_s, ends_s, time.monotonic())


def measure(
    answers: Sequence[Answer], fault: Fault, times: Times, usual: Base, plays: int = 1
) -> tuple[Row, list[Wrong]]:
    """Of one site."""
    disables = fault.disables and fault.lasts_s > 0
    wrong = Judge(times, disables, fault.keeps).all(answers)
    errors = [w for w in wrong if w.answer.status == 0 or w.answer.status >= 500]
    meanwhile = [
        answer.took_s
        for answer in answers
        if times.begins_s < answer.received_s and answer.sent_s < times.exact_from_s
    ]
    open_ = [
        answer.took_s
        for answer in answers
        if times.begun_s + OPEN_AFTER_S < answer.sent_s and answer.received_s < times.ends_s
    ]
    row = Row(
        fault.name,
        answers[0].site,
        plays,
        len(answers),
        len(wrong),
        len(errors),
        percentile(meanwhile, 0.99) - usual.p99_s,
        percentile(open_, 0.99) - usual.p99_s if disables else math.nan,
        max(answer.took_s for answer in answers),
        exact_after_s(answers, times),
    )
    return row, wrong


def missed(row: Row, wrong: list[Wrong], usual: Base, times: Times) -> list[str]:
    """The targets that were, in words."""
    said = []
    if wrong:
        said += [f"{len(wrong)} wrong answers, such as {wrong[0]}", *map(str, wrong[1:5])]
    most_s = usual.longest_s + TIMEOUT_S + ALLOWANCE_S
    if row.longest_s > most_s:
        said.append(f"a request took {row.longest_s:.3f} s, more than {most_s:.3f} s")
    if row.added_p99_open_s > OPEN_ALLOWANCE_S:
        said.append(f"with the breaker open p99 is {row.added_p99_open_s:.3f} s longer")
    if row.exact_after_s > times.within_s:
        said.append(f"exact again after {row.exact_after_s:.2f} s, later than {times.within_s} s")
    return [f"{row.site}: {text}" for text in said]
