"""The guide's criteria, judged: what came of a load test, and the exit code that says it.

No I/O, no locust.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from .record import Record

KINDS = 5
"""Of errors that the verdict names."""


class Exit(IntEnum):
    MET = 0
    MISSED = 1
    USAGE = 2
    """As of any command line."""
    INVALID = 3
    """The load was not what it should have been: nothing is known of the site."""


@dataclass(frozen=True, slots=True)
class Criteria:
    """p99 of the site's answers below ``p99_ms``, errors below ``error_percent``; locust's own
    lateness, its 99th percentile, at most ``lag_ms``."""

    p99_ms: float = 100.0
    error_percent: float = 0.1
    lag_ms: float = 25.0


@dataclass(frozen=True, slots=True)
class Load:
    """What locust measured of the requests that the criteria are about; ``errors`` of all."""

    requests: int
    errors: int
    all_requests: int
    p50_ms: float
    p99_ms: float
    longest_ms: float
    requests_per_s: float
    users: int
    kinds: tuple[tuple[str, int], ...] = ()
    """What the errors were and how often, the most frequent first."""


@dataclass(frozen=True, slots=True)
class Step:
    """The end of a step of rising load."""

    users: int
    p99_ms: float
    requests_per_s: float
    error_percent: float

    def meets(self, criteria: Criteria) -> bool:
        return self.p99_ms < criteria.p99_ms and self.error_percent < criteria.error_percent


@dataclass(frozen=True, slots=True)
class Verdict:
    exit_code: Exit
    reasons: tuple[str, ...]
    lines: tuple[str, ...] = field(default=())

    @property
    def word(self) -> str:
        return {Exit.MET: "MET", Exit.MISSED: "MISSED"}.get(self.exit_code, "INVALID")


def judge(load: Load, record: Record, criteria: Criteria, steps: Sequence[Step] = ()) -> Verdict:
    """``record`` with what is shared judged already. With ``steps`` the question is not whether
    the load was borne, but how much of it."""
    invalid, missed = [], []
    lag_ms = record.lag_ms(99)
    if lag_ms > criteria.lag_ms:
        invalid.append(
            f"locust itself was late by {lag_ms:,.0f} ms (p99; {criteria.lag_ms:,.0f} at most): "
            "use fewer users, more processes (--processes), or another machine"
        )
    for text, number in record.notes.items():
        if text.startswith("not enough"):
            invalid.append(f"{text} ({number:,} users)")
    if not load.requests:
        missed.append("no requests")
    share = 100 * load.errors / load.all_requests if load.all_requests else 0.0
    if load.requests and not steps:
        if load.p99_ms >= criteria.p99_ms:
            missed.append(f"p99 {load.p99_ms:,.0f} ms is not below {criteria.p99_ms:,.0f}")
        if share >= criteria.error_percent:
            missed.append(f"errors {share:.3f} % are not below {criteria.error_percent:g} %")
    if steps and not steps[0].meets(criteria):
        missed.append("not even the first step met the criteria")
    for about, (number, example) in sorted(record.wrong.items()):
        missed.append(f"{about}, {number:,} times: {example}")
    code = Exit.INVALID if invalid else Exit.MISSED if missed else Exit.MET
    return Verdict(
        code, (*invalid, *missed), tuple(_lines(load, record, share, lag_ms, steps, criteria))
    )


def _lines(
    load: Load,
    record: Record,
    share: float,
    lag_ms: float,
    steps: Sequence[Step],
    criteria: Criteria,
) -> list[str]:
    lines = [
        f"{load.users:,} users, {load.requests:,} requests ({load.requests_per_s:,.0f}/s): "
        f"p50 {load.p50_ms:,.0f} ms, p99 {load.p99_ms:,.0f} ms, longest {load.longest_ms:,.0f} ms; "
        f"{load.errors:,} errors ({share:.3f} %); locust late by {lag_ms:,.0f} ms (p99)"
    ]
    lines += [f"error: {text} ({number:,})" for text, number in load.kinds[:KINDS]]
    for name, tally in sorted(record.tallies.items()):
        lines.append(
            f"{name}: {tally.admitted:,} admitted and {tally.denied:,} denied, "
            f"{tally.identities:,} {'identity' if tally.identities == 1 else 'identities'}"
        )
    for step in steps:
        lines.append(
            f"{step.users:,} users: p99 {step.p99_ms:,.0f} ms, {step.requests_per_s:,.0f}/s, "
            f"errors {step.error_percent:.3f} %{'' if step.meets(criteria) else ' (missed)'}"
        )
    if steps:
        met = [step.users for step in steps if step.meets(criteria)]
        lines.append(f"the most users that met the criteria: {max(met, default=0):,}")
    lines += [f"{text} ({number:,})" for text, number in sorted(record.notes.items())]
    return lines
