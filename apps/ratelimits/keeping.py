"""Keep what is counted, or start afresh: what either does to whom, in numbers, for an edit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .models import RateLimit
from .policy.canary import is_within
from .policy.kept import Kept, is_counted, is_denied
from .policy.rules import Algorithm, Rate
from .storage.counted import Sample, Test

IDENTITY = ("counted_by", "header", "view_argument")
"""The fields of which another value is another count."""

WHAT_STAYS = {
    Algorithm.TOKEN_BUCKET: "What they have used refills in the same time as before the edit.",
    Algorithm.FIXED_WINDOW: "Of another window only those counts stay whose window ends when a new "
    "one does; the others begin afresh.",
    Algorithm.SLIDING_WINDOW: "Of another window only those counts stay whose window ended when a "
    "new one does; the others begin afresh.",
    Algorithm.SLIDING_LOG: "Requests older than the new window leave; what had left does not come "
    "back.",
    Algorithm.CONCURRENCY: "Requests under way go on, each until it is done or its own time is up.",
}


@dataclass(frozen=True, slots=True)
class Told:
    """``now``: how things stand. ``kept`` and ``afresh``: what the edit does with the tick left
    out, and with it set; empty where it is the same. ``source``: where the numbers are from."""

    now: str
    kept: str = ""
    afresh: str = ""
    source: str = ""


def told(before: RateLimit, after: RateLimit, sample: Sample, overrides: int = 0) -> Told:
    """Of a limit as it is saved and as the form would save it; ``sample`` is of the former, and
    ``overrides`` how many may hold somebody to another quota: whose counts are theirs, no digest
    tells. Raises PolicyError where either has no rate that can be enforced."""
    old, new = before.as_rate(), after.as_rate()
    counted = sample.number(_at(old, is_counted))
    over = sample.number(_at(old, is_denied))
    now = f"{_clients(counted, sample)} {_have(counted)} something counted"
    now += f"; {over:,} of them {_are(over)} over the quota right now." if over else "."
    source = _source(sample, sample.found(_at(old, is_counted)))
    if overrides:
        source += f"; as if there were no override ({overrides:,} may be about some of them)"
    afresh = "Everyone begins with a full quota"
    afresh += f", the {over:,} over it too." if over else "."
    if not counted:
        nobody = "Nobody has anything counted right now" if sample.is_whole else source
        return Told(f"{nobody}: kept or afresh makes no difference.")
    if old.algorithm is not new.algorithm:
        kept = "Not possible: another algorithm counts otherwise, so everyone begins afresh."
        return Told(now, kept, afresh, source)
    if any(getattr(before, name) != getattr(after, name) for name in IDENTITY):
        kept = "Not possible: clients are counted by something else, so everyone begins afresh."
        return Told(now, kept, afresh, source)
    if old == new:
        kept = "Nothing changes: all go on with what they have used."
        return Told(now, kept, afresh, source)
    return Told(now, _kept(after, old, new, sample, counted), afresh, source)


def _kept(after: RateLimit, old: Rate, new: Rate, sample: Sample, counted: int) -> str:
    was_over, is_over = _at(old, is_denied), _at(new, is_denied)
    was_counted, stays_counted = _at(old, is_counted), _at(new, is_counted)
    denied = sample.number(is_over)
    newly = sample.number(lambda *one: is_over(*one) and not was_over(*one))
    freed = sample.number(lambda *one: was_over(*one) and not is_over(*one))
    stay = sample.number(lambda *one: was_counted(*one) and stays_counted(*one))
    if denied:
        text = f"With the new rate {denied:,} of {counted:,} {_would(after, is_over, sample)}"
        text += f", {newly:,} of them {_are(newly)} not over it now." if newly else "."
    else:
        text = f"With the new rate nobody is over it: all {counted:,} go on."
    if freed:
        text += f" {freed:,} who {_are(freed)} over the quota now may go on."
    if old.window_us != new.window_us:
        text += f" {WHAT_STAYS[new.algorithm]}"
        if stay < counted:
            text += f" So {stay:,} of {counted:,} {'keeps' if stay == 1 else 'keep'} something."
    elif new.algorithm is Algorithm.TOKEN_BUCKET:
        text += f" {WHAT_STAYS[new.algorithm]}"
    return text


def _would(after: RateLimit, is_over: Test, sample: Sample) -> str:
    """What happens to those over it, in the mode that the limit would have."""
    if after.mode == RateLimit.Mode.ENFORCE:
        return "would be denied at once"
    if after.mode != RateLimit.Mode.CANARY:
        return "are over it at once"
    permille, number = after.canary_permille, after.pk
    denied = sample.number(
        lambda kept, now_us: is_over(kept, now_us) and is_within(permille, number, kept.digest)
    )
    return f"are over it at once, of whom the {denied:,} in the canary would be denied"


def _at(rate: Rate, what: Callable[[Rate, Kept, int], bool]) -> Test:
    return lambda kept, now_us: what(rate, kept, now_us)


def _clients(number: int, sample: Sample) -> str:
    about = "" if sample.is_whole else "About "
    return f"{about}{number:,} client{'' if number == 1 else 's'}"


def _have(number: int) -> str:
    return "has" if number == 1 else "have"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _source(sample: Sample, found: int) -> str:
    if sample.is_whole:
        return "Counted just now, all keys looked at"
    return (
        f"Estimated just now: {found:,} found among {sample.walked:,} of "
        f"{sample.keys:,} keys in Redis"
    )


def missing(cleaned: Iterable[str]) -> bool:
    """Whether the form lacks something without which nothing can be said."""
    return not {"algorithm", "quota", "window_amount", "window_unit", "cost", "counted_by"} <= set(
        cleaned
    )
