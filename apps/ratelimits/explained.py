"""What became of a request, limit by limit: the verdict in a sentence, and as programs read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from .policy.explaining import Considered, Outcome, override_text
from .policy.matching import CompiledRule
from .policy.rules import Mode
from .standings import Bar
from .storage.denied import Denial

SHORT_CHARS = 8
"""Of a digest, as people see it."""
MOST_MISSED = 100
"""Limits that did not match, told one by one; of the others, how many they are."""


@dataclass(frozen=True, slots=True)
class Row:
    """One limit. ``said``: why it is not about the request, or what is particular where it is.
    ``digest`` of whom it counts, ``shared`` where it counts all new clients together."""

    limit: int
    name: str
    mode: str
    outcome: Outcome
    said: tuple[str, ...]
    counted: str = ""
    digest: str = ""
    bucket: str = ""
    shared: bool = False
    bar: Bar | None = None
    denies: bool = False

    @property
    def short(self) -> str:
        return self.digest[:SHORT_CHARS]

    @property
    def matched(self) -> bool:
        return self.outcome not in (Outcome.MISSES, Outcome.UNTOLD)


@dataclass(frozen=True, slots=True)
class Explanation:
    """``allowed`` None: it cannot be told. ``steps``: how the client's address was found. ``rows``:
    those that matched first; ``more`` others did not."""

    request: str
    verdict: str
    allowed: bool | None
    address: str
    who: str
    steps: tuple[str, ...]
    notes: tuple[str, ...]
    rows: tuple[Row, ...]
    more: int
    version: int
    denial: Denial | None = None

    @property
    def matched(self) -> list[Row]:
        return [row for row in self.rows if row.matched]

    @property
    def missed(self) -> list[Row]:
        return [row for row in self.rows if not row.matched]


def shown(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Those that matched first, of which those that deny; then some that did not."""
    ordered = sorted(rows, key=lambda row: (not row.matched, not row.denies))
    matched = sum(row.matched for row in rows)
    return tuple(ordered[: matched + MOST_MISSED])


def verdict(
    rows: Sequence[Row], considered: Sequence[tuple[CompiledRule, Considered]]
) -> tuple[str, bool | None]:
    """In a sentence, and whether it is allowed; None: that cannot be told."""
    for compiled, one in considered:
        if one.outcome is Outcome.BLOCKED and one.override is not None:
            said = override_text(one.override, compiled.rule)
            return f"Denied by an override of {one.rule.name}. {said}", False
    counting = [row for row in rows if row.outcome is Outcome.COUNTS]
    enforced = [row for row in counting if row.mode == Mode.ENFORCE]
    if enforced and any(row.bar is None for row in enforced):
        return (
            f"Not known: Redis does not answer, and {_named(enforced)} by "
            "what each says for that case.",
            None,
        )
    denying = [row for row in enforced if row.denies]
    if denying:
        first = max(denying, key=lambda row: row.bar.wait_s if row.bar else 0)
        also = f" ({len(denying) - 1:,} more deny it)" if len(denying) > 1 else ""
        text = first.bar.text if first.bar else ""
        return f"Denied by {first.name}{also}: {text}, by {first.counted}.", False
    untold = [row for row in rows if row.outcome is Outcome.UNTOLD]
    but = ""
    if untold:
        but = f" Of {len(untold):,} limit{'s' * (len(untold) > 1)} it cannot be told."
    if enforced:
        nearest = max(enforced, key=lambda row: row.bar.percent if row.bar else 0)
        text = nearest.bar.text if nearest.bar else ""
        many = f"{len(enforced):,} limits count it" if len(enforced) > 1 else "one limit counts it"
        return f"Allowed: {many}. Nearest is {nearest.name}: {text}.{but}", True
    if counting:
        return f"Allowed: only limits in shadow count it, which block nobody.{but}", True
    if any(row.outcome is Outcome.UNLIMITED for row in rows):
        return f"Allowed: an override lifts every limit that matches.{but}", True
    return f"Allowed: no limit matches it.{but}", True


def _named(rows: Sequence[Row]) -> str:
    if len(rows) == 1:
        return f"{rows[0].name} decides"
    return f"{len(rows):,} limits decide"


def verdict_of_denial(denial: Denial, rows: Sequence[Row]) -> str:
    names = [row.name for row in rows if row.limit in denial.denied]
    by = " and ".join(names) or "a limit that is no more"
    at = datetime.fromtimestamp(denial.at_ms / 1000, UTC)
    when = timezone.localtime(at).strftime("%d %b, %H:%M:%S")
    why = {
        "override": f"Blocked at {when} by an override of {by}.",
        "redis": f"Denied at {when} by {by}, since Redis did not answer and it says to deny then.",
    }.get(denial.why, f"Denied at {when} by {by}.")
    if denial.times > 1:
        why += f" {denial.times:,} alike came within a second."
    now = [row for row in rows if row.limit in denial.denied and row.bar is not None]
    said = [f"{row.name}: {row.bar.text}" for row in now if row.bar]
    return f"{why} Now: {'; '.join(said)}." if said else why


def as_dict(found: Explanation) -> dict[str, Any]:
    """For programs."""
    return {
        "request": found.request,
        "allowed": found.allowed,
        "verdict": found.verdict,
        "address": found.address,
        "address_steps": list(found.steps),
        "who": found.who,
        "notes": list(found.notes),
        "version": found.version,
        "limits": [
            {
                "name": row.name,
                "mode": row.mode,
                "outcome": str(row.outcome),
                "said": list(row.said),
                "counted_by": row.counted,
                "digest": row.digest,
                "bucket": row.bucket,
                "denies": row.denies,
                "counter": as_counter(row.bar),
            }
            for row in found.rows
        ],
        "not_shown": found.more,
    }


def as_counter(one: Bar | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "used": one.used,
        "capacity": one.capacity,
        "allowed": one.allowed,
        "retry_after_s": one.wait_s,
        "full_again_s": one.full_s,
    }
