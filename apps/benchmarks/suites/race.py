"""Ours, the floor and the peers on the same work: made, seen to limit, and then timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from .. import rounds
from ..registry import Run, Samples
from .ours import PLENTY, Check, quotas

HOT = 200
"""Identities that take turns."""

SMALL_QUOTA = 3

Maker = Callable[[Sequence[int]], Check]
"""Makes a check of as many limits as it is given quotas. Raises NotInstalled, WrongAnswer."""


class NotInstalled(Exception):
    """A peer that this environment lacks."""


class WrongAnswer(Exception):
    """A contestant that does not limit, so that its speed means nothing."""


def identities(number: int = HOT) -> list[str]:
    return [f"user-{n}" for n in range(number)]


def verify(name: str, maker: Maker, limits: int) -> None:
    """It allows a small quota's first request and denies the one after the last."""
    check = maker(quotas(limits, least=SMALL_QUOTA))
    first = check("verified")
    for _ in range(SMALL_QUOTA - 1):
        check("verified")
    if not first or check("verified"):
        raise WrongAnswer(f"{name}: a quota of {SMALL_QUOTA} did not hold")


def race(
    run: Run,
    makers: Mapping[str, Maker],
    *,
    limits: int,
    denied: bool = False,
    beside: Iterable[rounds.Contestant] = (),
    subjects: Sequence[str] = (),
) -> Samples:
    """Microseconds per check of ``limits`` limits, all allowed or all denied.

    ``beside`` are contestants without a limit, such as the floor.
    """
    run.client.flushall()
    subjects = subjects or identities()
    field: list[rounds.Contestant] = []
    absent: dict[str, str] = {}
    for name, maker in makers.items():
        try:
            verify(name, maker, limits)
            check = maker(quotas(limits, least=SMALL_QUOTA if denied else PLENTY))
        except (NotInstalled, WrongAnswer) as reason:
            absent[name] = str(reason)
            continue
        if denied:
            _use_up(check, subjects)
        field.append(rounds.Contestant(name, check, subjects))

    def still_right(contestant: rounds.Contestant) -> None:
        if contestant.name in makers and contestant.call(subjects[0]) is denied:
            raise WrongAnswer(f"{contestant.name}: {'allowed' if denied else 'denied'} while timed")

    taken = rounds.measure([*field, *beside], run.rounds, between=still_right)
    run.client.flushall()
    return Samples(taken, absent)


def _use_up(check: Check, subjects: Sequence[str]) -> None:
    for subject in subjects:
        for _ in range(SMALL_QUOTA):
            check(subject)
