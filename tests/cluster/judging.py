"""What the answers say about a scenario: what was wrong, and what replication had lost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .load import Answer, Person

IN_A_ROW = 50
"""So many answers of the lost slots that Redis gave: they are exact again."""
LAG_ALLOWANCE_S = 0.02
"""On a busy machine a write waits so long for its turn."""


@dataclass(frozen=True, slots=True)
class Happened:
    """Of one scenario, times of time.monotonic(). ``lost_slots``: those of a primary that was lost
    at ``at_s`` and replaced at ``again_s``, as its successor says. ``lag_s``: how far its replica
    was behind."""

    at_s: float
    again_s: float
    lost_slots: frozenset[int] = frozenset()
    lag_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """``wrong``: answers that neither the policy nor the lag of replication explains. ``bound``: so
    many charges the lost primary had acknowledged and not replicated yet, at most."""

    scenario: str
    requests: int
    wrong: int
    errors: int
    failover_s: float | None
    by_policy: int
    by_policy_elsewhere: int
    over_admitted: int
    bound: int
    exact_after_s: float | None
    """After the replica took over."""
    said: tuple[str, ...]


def judge(
    scenario: str, happened: Happened, under_load: Sequence[Answer], used_up: Sequence[Answer]
) -> Row:
    answers = [*under_load, *used_up]
    charged: Counter[Person] = Counter()
    uncertain: Counter[Person] = Counter()
    denied: set[Person] = set()
    for answer in answers:
        for at, person in enumerate(answer.whom):
            charged[person] += answer.charged[at]
            # Without a reply it may have been charged; so may what was to be given back.
            uncertain[person] += answer.by_policy[at] or any(answer.by_policy)
            if answer.denied[at]:
                denied.add(person)
    said = [f"{answer.error}: {answer}" for answer in answers if answer.error]
    errors = len(said)
    said += [f"allowed though a limit denied: {a}" for a in answers if a.allowed and any(a.denied)]
    over: Counter[Person] = Counter()
    for person, number in charged.items():
        quota = person.rule.rate.quota
        over[person] = max(0, number - quota)
        if person in denied and number + uncertain[person] < quota:
            said.append(f"denied after {number} of {quota}: {person}")
    for whom in {answer.whom for answer in used_up}:
        if not denied.intersection(whom):
            said.append(f"never denied: {whom}")
    bound = _unreplicated(happened, under_load)
    for person, number in over.items():
        if number > bound[person]:
            said.append(f"{number} over the quota, {bound[person]} were unreplicated: {person}")
    by_policy = [answer for answer in under_load if any(answer.by_policy)]
    elsewhere = [answer for answer in by_policy if not _touches(answer, happened.lost_slots)]
    return Row(
        scenario,
        len(answers),
        len(said) - errors,
        errors,
        happened.again_s - happened.at_s if happened.lost_slots else None,
        len(by_policy),
        len(elsewhere),
        over.total(),
        bound.total(),
        _exact_after_s(happened, under_load) if happened.lost_slots else None,
        tuple(said),
    )


def _unreplicated(happened: Happened, answers: Sequence[Answer]) -> Counter[Person]:
    """Of each person, the charges that were acknowledged within the lag before the loss."""
    from_s = happened.at_s - happened.lag_s - LAG_ALLOWANCE_S
    found: Counter[Person] = Counter()
    if not happened.lost_slots:
        return found
    for answer in answers:
        if answer.received_s < from_s or answer.sent_s > happened.again_s:
            continue
        for at, person in enumerate(answer.whom):
            if person.slot in happened.lost_slots:
                found[person] += answer.charged[at]
    return found


def _exact_after_s(happened: Happened, answers: Sequence[Answer]) -> float:
    in_a_row, since_s = 0, math.inf
    for answer in sorted(answers, key=lambda answer: answer.sent_s):
        if answer.sent_s < happened.at_s or not _touches(answer, happened.lost_slots):
            continue
        if any(answer.by_policy):
            in_a_row, since_s = 0, math.inf
            continue
        in_a_row, since_s = in_a_row + 1, min(since_s, answer.received_s)
        if in_a_row >= IN_A_ROW:
            return max(0.0, since_s - happened.again_s)
    return math.inf


def _touches(answer: Answer, slots: frozenset[int]) -> bool:
    return any(person.slot in slots for person in answer.whom)
