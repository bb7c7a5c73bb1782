"""What staff are told of a replay: of the draft, and of the limit as it is beside it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from .judging import Judge
from .quotas import Use, use
from .replay import Replayed, Said, grouped, replay
from .traffic import Batch

TOP = 10
STEPS_US = tuple(
    seconds * 1_000_000
    for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200)
)
MOST_STEPS = 60
_DIGEST = re.compile(r"\{\*?[^{}]*\}")


@dataclass(frozen=True, slots=True)
class Side:
    """Numbers of requests and identities. ``matched`` are those that the limit would have decided:
    others were denied by other limits (``others``) or cannot be told (``untold``, by reason)."""

    matched: int
    denied: int
    people: int
    people_denied: int
    others: int = 0
    untold: dict[str, int] = field(default_factory=dict)
    assumed: int = 0
    unlimited: int = 0
    scaled: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """A moment of the series; ``was_denied`` by the limit as it is."""

    at_us: int
    matched: int
    denied: int
    was_denied: int


@dataclass(frozen=True, slots=True)
class Row:
    """Of a table: ``name`` is a path, or whom a digest stands for, and ``kind`` what it is."""

    kind: str
    name: str
    matched: int
    denied: int


@dataclass(frozen=True, slots=True)
class Preview:
    records: int
    lost: int
    sample: int
    since_us: int
    until_us: int
    draft: Side
    now: Side | None
    """The limit as it is; None where there is none yet."""
    step_us: int
    series: tuple[Step, ...]
    identities: tuple[Row, ...]
    paths: tuple[Row, ...]
    use: Use

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def from_json(data: dict[str, Any]) -> Preview:
    """The inverse of ``as_json``."""
    return Preview(
        **{
            **data,
            "draft": Side(**data["draft"]),
            "now": data["now"] and Side(**data["now"]),
            "series": tuple(Step(**step) for step in data["series"]),
            "identities": tuple(Row(**row) for row in data["identities"]),
            "paths": tuple(Row(**row) for row in data["paths"]),
            "use": Use(**data["use"]),
        }
    )


def preview(
    traffic: Batch,
    draft: Judge,
    now: Judge | None,
    *,
    report: Callable[[int], bool] = lambda done: True,
) -> Preview:
    """``report`` hears of records done, of both replays together, and may stop it (Stopped).
    Raises PolicyError as ``replay`` does."""
    groups = grouped(traffic, draft)
    drafted = replay(traffic, draft, groups, report=report)
    of_now = None
    if now is not None:
        alike = groups.at(draft.rule.rate, now.rule.rate) if draft.groups_as(now) else None
        of_now = replay(traffic, now, alike, report=lambda done: report(len(traffic) + done))
    since_us, until_us = (traffic.at_us[0], traffic.at_us[-1]) if len(traffic) else (0, 0)
    step_us = next(
        (step for step in STEPS_US if (until_us - since_us) // step < MOST_STEPS), STEPS_US[-1]
    )
    return Preview(
        records=len(traffic),
        lost=traffic.lost,
        sample=traffic.sample,
        since_us=since_us,
        until_us=until_us,
        draft=_side(drafted),
        now=None if of_now is None else _side(of_now),
        step_us=step_us,
        series=_series(traffic, drafted, of_now, step_us),
        identities=_identities(drafted),
        paths=_paths(traffic, drafted),
        use=use(traffic, draft.rule.rate, drafted),
    )


def _side(replayed: Replayed) -> Side:
    said = replayed.said
    number = [said.count(each) for each in Said]
    told = [replayed.said_of(rows) for rows in replayed.identities.values()]
    denied = sum(Said.DENIED in each for each in told)
    people = sum(Said.DENIED in each or Said.ALLOWED in each for each in told)
    return Side(
        matched=number[Said.ALLOWED] + number[Said.DENIED],
        denied=number[Said.DENIED],
        people=people,
        people_denied=denied,
        others=number[Said.OTHERS] + number[Said.BOTH],
        untold={str(why): count for why, count in replayed.untold.items()},
        assumed=replayed.assumed,
        unlimited=replayed.unlimited,
        scaled=replayed.scaled,
    )


def _series(
    traffic: Batch, drafted: Replayed, now: Replayed | None, step_us: int
) -> tuple[Step, ...]:
    """Every step from the first record to the last, also those in which nothing came."""
    if not len(traffic):
        return ()
    at_us = traffic.at_us
    series, first = [], 0
    for step in range(at_us[0] // step_us, at_us[-1] // step_us + 1):
        after = bisect_left(at_us, (step + 1) * step_us, first)
        drawn = drafted.said[first:after]
        denied = drawn.count(Said.DENIED)
        before = now.said[first:after].count(Said.DENIED) if now else 0
        series.append(Step(step * step_us, drawn.count(Said.ALLOWED) + denied, denied, before))
        first = after
    return tuple(series)


def _identities(replayed: Replayed) -> tuple[Row, ...]:
    found = []
    for parts, rows in replayed.identities.items():
        told = replayed.said_of(rows)
        denied = told.count(Said.DENIED)
        if matched := denied + told.count(Said.ALLOWED):
            found.append((denied, matched, parts))
    found.sort(reverse=True)
    return tuple(
        Row(" and ".join(parts[::2]), " ".join(parts[1::2]), matched, denied)
        for denied, matched, parts in found[:TOP]
    )


def _paths(traffic: Batch, replayed: Replayed) -> tuple[Row, ...]:
    """Paths that differ by arguments alone are one."""
    places: dict[tuple[str, str], int] = {}
    place_of = [
        places.setdefault((what.method, _DIGEST.sub("{…}", what.path)), len(places))
        for what in traffic.whats
    ]
    counted = Counter(zip(map(place_of.__getitem__, traffic.what), replayed.said, strict=True))
    denied = {name: counted[place, Said.DENIED] for name, place in places.items()}
    matched = {
        name: number
        for name, place in places.items()
        if (number := denied[name] + counted[place, Said.ALLOWED])
    }
    ordered = sorted(matched, key=lambda name: (denied[name], matched[name]), reverse=True)
    return tuple(Row(*name, matched[name], denied[name]) for name in ordered[:TOP])
