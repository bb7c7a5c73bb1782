"""What a limit would have done to recorded traffic, request by request, by the oracle's arithmetic.

The limit is tried alone and from empty: what other limits denied stays denied and is not charged to
it, as all limits are charged or none; what it would have denied is not taken off the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from heapq import heappop, heappush
from typing import Any

from .algorithms import EMPTY, State, decide, refund
from .judging import Counted, Held, Judge, Untold
from .rules import Algorithm, CountedBy, Counts, Rate, Rule
from .spending import spender
from .traffic import TOOK_UNKNOWN, Batch

REPORT_EVERY = 20_000


class Said(IntEnum):
    """Of a request. OTHERS: other limits denied it, and this one would not have; BOTH: too."""

    NOTHING = 0
    ALLOWED = 1
    DENIED = 2
    OTHERS = 3
    BOTH = 4
    UNTOLD = 5


class Stopped(Exception):
    """``report`` has ended it."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """Records by whom they count, and to what rate, in order of time. ``said`` has a Said for each
    that cannot be told, ``untold`` why."""

    groups: tuple[tuple[Counted, list[int]], ...]
    said: bytes
    untold: Counter[Untold]

    def at(self, old: Rate, new: Rate) -> Grouped:
        """Of a limit that differs by its rate alone (``Judge.groups_as``)."""
        groups = (
            (counted._replace(rate=new) if counted.rate == old else counted, rows)
            for counted, rows in self.groups
        )
        return Grouped(tuple(groups), self.said, self.untold)


@dataclass(slots=True)
class Replayed:
    """``said``: a Said for each record, in their order. ``identities``: who was counted, and the
    records of each, by place. ``assumed``: requests whose response is not known, taken to count."""

    said: bytearray
    identities: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    held: list[list[int]] = field(default_factory=list)
    """The same, of those alone who are held to the limit's own rate."""
    untold: Counter[Untold] = field(default_factory=Counter)
    assumed: int = 0
    unlimited: int = 0
    scaled: int = 1
    """Everyone together, of a sample: the quota was divided by this; counts are of the sample."""

    def said_of(self, rows: Sequence[int]) -> bytes:
        return bytes(map(self.said.__getitem__, rows))


def replay(
    traffic: Batch,
    judge: Judge,
    groups: Grouped | None = None,
    *,
    report: Callable[[int], bool] = lambda done: True,
) -> Replayed:
    """``report`` hears how many records are done, and ends the replay (Stopped) by returning False.

    ``traffic`` is in order of time; ``groups``: what ``grouped`` says of it. Raises PolicyError
    where a sample of the limit's quota is less than one request.
    """
    rule = judge.rule
    groups = groups or grouped(traffic, judge)
    said = bytearray(groups.said)
    result = Replayed(said, untold=Counter(groups.untold))
    if CountedBy.EVERYONE in rule.counted_by:
        result.scaled = traffic.sample
    others = [any(number != rule.id for number in o.denied_by) for o in traffic.outcomes]
    done = told = len(traffic) - sum(len(rows) for _, rows in groups.groups)
    for counted, rows in groups.groups:
        if counted.blocked:
            for row in rows:
                said[row] = Said.BOTH if others[traffic.outcome[row]] else Said.DENIED
        elif counted.rate is None:
            result.unlimited += len(rows)
            for row in rows:
                said[row] = Said.OTHERS if others[traffic.outcome[row]] else Said.ALLOWED
        else:
            _count(traffic, rule, _of_sample(counted.rate, result.scaled), rows, others, result)
        if counted.parts in result.identities:
            result.identities[counted.parts] = [*result.identities[counted.parts], *rows]
        else:
            result.identities[counted.parts] = rows
        if counted.rate == rule.rate and not counted.blocked:
            result.held.append(rows)
        done += len(rows)
        if done - told >= REPORT_EVERY:
            told = done
            if not report(done):
                raise Stopped
    return result


def grouped(traffic: Batch, judge: Judge) -> Grouped:
    """What does not depend on how much the limit grants."""
    groups: dict[Counted, tuple[Counted, list[int]]] = {}
    whats, whos = traffic.whats, traffic.whos
    about = [judge.of_what(what) for what in whats]
    held: dict[int, Held | Untold | None] = {}
    # What a record comes to: whose list it enters, None, or why it cannot be told.
    known: dict[int, Any] = {}
    width = 0 if judge.counts_by_who else len(whos)
    said, untold = bytearray(len(traffic)), Counter[Untold]()
    for row, (what, who) in enumerate(zip(traffic.what, traffic.who, strict=True)):
        told = about[what]
        if told is not True:
            if told:
                untold[told] += 1
                said[row] = Said.UNTOLD
            continue
        pair = what * width + who
        try:
            found = known[pair]
        except KeyError:
            if who not in held:
                held[who] = judge.of_who(whos[who])
            found = held[who]
            if isinstance(found, Held):
                counted = judge.counted(whats[what], whos[who], found)
                found = groups.setdefault(counted, (counted, []))[1]
            known[pair] = found
        if found.__class__ is list:
            found.append(row)
        elif found is not None:
            untold[found] += 1
            said[row] = Said.UNTOLD
    return Grouped(tuple(groups.values()), bytes(said), untold)


def _of_sample(rate: Rate, sample: int) -> Rate:
    if sample == 1:
        return rate
    return replace(rate, quota=rate.quota // sample, burst=max(1, rate.burst // sample))


def _count(
    traffic: Batch,
    rule: Rule,
    rate: Rate,
    rows: Sequence[int],
    others: Sequence[bool],
    result: Replayed,
) -> None:
    """One identity's requests, in order of time."""
    at_us, outcome, said = traffic.at_us, traffic.outcome, result.said
    if rate.algorithm is Algorithm.CONCURRENCY:
        _hold(traffic, rate, rows, others, result)
        return
    if rule.counts is not Counts.EVERY:
        _count_by_response(traffic, rule, rate, rows, others, result)
        return
    if len(rows) * rate.cost <= min(rate.quota, rate.burst):
        for row in rows:  # However they come.
            said[row] = 3 if others[outcome[row]] else 1
        return
    spend = spender(rate)
    for row in rows:
        other = others[outcome[row]]
        if spend(at_us[row], not other):
            said[row] = 3 if other else 1
        else:
            said[row] = 4 if other else 2


def _hold(
    traffic: Batch, rate: Rate, rows: Sequence[int], others: Sequence[bool], result: Replayed
) -> None:
    """Slots, each until the request's end or its lease's."""
    at_us, took_us, said = traffic.at_us, traffic.took_us, result.said
    ends: list[int] = []
    blocked_until_us = 0
    for row in rows:
        outcome = traffic.outcomes[traffic.outcome[row]]
        other = others[traffic.outcome[row]]
        if took_us[row] == TOOK_UNKNOWN or (outcome.denied_by and not other):
            # Streamed, or denied by this very limit: for how long it would have held a slot is not
            # known.
            result.untold[Untold.DURATION] += 1
            said[row] = Said.UNTOLD
            continue
        now = at_us[row]
        while ends and ends[0] <= now:
            heappop(ends)
        if blocked_until_us > now or len(ends) >= rate.quota:
            if rate.block_us and blocked_until_us <= now:
                blocked_until_us = now + rate.block_us
            said[row] = Said.BOTH if other else Said.DENIED
            continue
        said[row] = Said.OTHERS if other else Said.ALLOWED
        if not other:
            heappush(ends, now + min(took_us[row], rate.window_us))


def _count_by_response(
    traffic: Batch,
    rule: Rule,
    rate: Rate,
    rows: Sequence[int],
    others: Sequence[bool],
    result: Replayed,
) -> None:
    """Each is charged when it comes, and given back at its end where it turns out not to count."""
    at_us, took_us, said = traffic.at_us, traffic.took_us, result.said
    state = EMPTY
    due: list[tuple[int, int, State]] = []
    for row in rows:
        now = at_us[row]
        while due and due[0][0] <= now:
            end_us, place, charged_at = heappop(due)
            state = refund(rate, state, charged_at, rate.cost, str(place), end_us)
        other = others[traffic.outcome[row]]
        outcome = traffic.outcomes[traffic.outcome[row]]
        allowed, idle, counted = decide(rate, state, now, member=str(row))
        if not allowed:
            state = counted
            said[row] = Said.BOTH if other else Said.DENIED
            continue
        said[row] = Said.OTHERS if other else Said.ALLOWED
        if other:
            state = idle
            continue
        state = counted
        if rule.counts is Counts.SIGNAL or outcome.denied_by:
            result.assumed += 1
        elif not rule.counts_response(outcome.status, frozenset()):
            took = 0 if took_us[row] == TOOK_UNKNOWN else took_us[row]
            heappush(due, (now + took, row, counted))
