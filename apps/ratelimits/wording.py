"""A limit in words: a sentence for whoever edits it, and the columns of the list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from django.utils.formats import date_format
from django.utils.timesince import timesince
from django.utils.timezone import localtime

from .models import RateLimit, WindowUnit
from .policy.rules import CountedBy
from .storage.cardinality import IdentityCount, period_s
from .validators import split_lines

MAX_NAMED = 3
"""Of groups or networks; further ones are counted."""

MODES = {
    RateLimit.Mode.DRAFT: "Draft, which is not in force; enforced it would say: ",
    RateLimit.Mode.OFF: "Off; enforced it would say: ",
    RateLimit.Mode.SHADOW: "Shadow, which never blocks; enforced it would say: ",
    RateLimit.Mode.CANARY: "Canary, enforced for {percent} of clients, always the same ones, and "
    "only counted for the others: ",
    RateLimit.Mode.ENFORCE: "",
}
AUDIENCES = {
    RateLimit.Audience.EVERYONE: "",
    RateLimit.Audience.ANONYMOUS: " of anonymous visitors",
    RateLimit.Audience.SIGNED_IN: " of signed-in users",
    RateLimit.Audience.STAFF: " of staff",
}


def sentence(limit: RateLimit, groups: Iterable[object]) -> str:
    """``Each address may call 100 times per minute, GET on /api/…; the next request waits.``"""
    text = f"{_who(limit)}{_where(limit, groups)} may {_how_much(limit)}; {_then(limit)}."
    if limit.lease:
        text += f" {_ahead(limit)}"
    if limit.identities:
        text += f" {_at_most(limit)}"
    return MODES[RateLimit.Mode(limit.mode)].format(percent=percent(limit)) + text


def percent(limit: RateLimit) -> str:
    """Of a canary's clients: ``10 %``, ``0.5 %``."""
    return f"{limit.canary_permille / 10:g} %"


def _who(limit: RateLimit) -> str:
    of = AUDIENCES[RateLimit.Audience(limit.audience)]
    counted_by = limit.as_counted_by()
    if CountedBy.EVERYONE in counted_by:
        return f"Everyone together{of}" if not of else f"All{of} together"
    names = {
        CountedBy.HEADER: f"key in {limit.header or 'the header'}",
        CountedBy.VIEW_ARGUMENT: f"value of {limit.view_argument or 'the argument'}",
    }
    parts = [names.get(part, part.value) for part in counted_by]
    together = " with each ".join(parts) or "client"
    return f"Each {together}{of}"


def _where(limit: RateLimit, groups: Iterable[object]) -> str:
    text = ""
    if names := sorted(str(group) for group in groups):
        text += f" in {_any_of(names)}"
    if inside := split_lines(limit.networks):
        text += f" from {_any_of(inside)}"
    if outside := split_lines(limit.networks_excluded):
        text += f" but not from {_any_of(outside)}"
    return text


def _any_of(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return " or ".join([*names[:MAX_NAMED], *([f"{more:,} more"] if more > 0 else [])])


def _how_much(limit: RateLimit) -> str:
    which = f"{' or '.join(split_lines(limit.methods.upper())) or 'any method'} {_path(limit)}"
    if limit.host:
        which += f" of {limit.host}"
    if limit.counts == RateLimit.Counts.STATUS:
        which += f", counted only where the answer is {_any_of(split_lines(limit.statuses))}"
    elif limit.counts == RateLimit.Counts.SIGNAL:
        which += f", counted only where it raises {limit.signal or 'the signal'}"
    if limit.algorithm == RateLimit.Algorithm.CONCURRENCY:
        return f"have {limit.quota:,} requests at the same time, {which}"
    if limit.cost > 1:
        much = f"use {limit.quota:,} units per {_window(limit)}, {limit.cost:,} a request"
    elif limit.quota == 1:
        much = f"call once per {_window(limit)}"
    else:
        much = f"call {limit.quota:,} times per {_window(limit)}"
    if limit.algorithm == RateLimit.Algorithm.TOKEN_BUCKET and limit.effective_burst != limit.quota:
        much += f", at most {limit.effective_burst:,} at once"
    return f"{much}, {which}"


def _then(limit: RateLimit) -> str:
    if limit.block_amount:
        block = _span(limit.block_amount, limit.block_unit)
        return f"the next request is denied, and every one for {block} after it"
    if limit.charge_denied:
        return "the next request waits, and asking meanwhile prolongs the wait"
    return "the next request waits"


def _ahead(limit: RateLimit) -> str:
    what = "units" if limit.cost > 1 else "requests"
    return (
        f"Each server process takes up to {limit.lease:,} {what} ahead, so that a denial may come "
        "a little early, never late."
    )


def identities(count: IdentityCount | None, now: datetime) -> str:
    """How many clients came to a limit, for whoever looks at its form."""
    if count is None:
        return "As many as come: no bound."
    came = f"About {count.came:,} in the current {_period(count.period_s)}"
    if count.came <= count.budget:
        return f"{came}, of {count.budget:,} that may be."
    text = f"{came}, over the {count.budget:,} that may be: new ones share one count"
    if count.over_since_s is None:
        return f"{text}."
    since = localtime(datetime.fromtimestamp(count.over_since_s, UTC))
    return f"{text} since {date_format(since, 'DATETIME_FORMAT')}, {timesince(since, now)} ago."


def _period(length_s: int) -> str:
    for unit in reversed(WindowUnit):
        if length_s == unit:
            return unit.label.removesuffix("s")
        if length_s % unit == 0:
            return _span(length_s // unit, unit)
    return _span(length_s, WindowUnit.SECOND)


def _at_most(limit: RateLimit) -> str:
    return (
        f"Where more than {limit.identities:,} different ones come per "
        f"{_period(period_s(limit.window_s))}, further new ones share one count."
    )


def _path(limit: RateLimit) -> str:
    return {
        RateLimit.PathKind.ANY: "on every path",
        RateLimit.PathKind.PREFIX: f"on {limit.path}…",
        RateLimit.PathKind.VIEW: f"on view {limit.path}",
        RateLimit.PathKind.NAMED: "where code asks for this name",
    }.get(RateLimit.PathKind(limit.path_kind), f"on {limit.path}")


def _window(limit: RateLimit) -> str:
    unit = WindowUnit(limit.window_unit).label
    one = limit.window_amount == 1
    return unit.removesuffix("s") if one else _span(limit.window_amount, limit.window_unit)


def _span(amount: int, unit: int) -> str:
    label = WindowUnit(unit).label
    return f"{amount:,} {label.removesuffix('s') if amount == 1 else label}"


def coverage(limit: RateLimit) -> str:
    """Which requests, for a list: ``GET on /api/…, per address``."""
    methods = ", ".join(split_lines(limit.methods)) or "every method"
    counted_by = limit.as_counted_by()
    if CountedBy.EVERYONE in counted_by:
        return f"{methods} {_path(limit)}, all together"
    names = {
        CountedBy.HEADER: limit.header,
        CountedBy.VIEW_ARGUMENT: f"argument {limit.view_argument}",
    }
    counted = " and ".join(names.get(part, part.value) for part in counted_by)
    return f"{methods} {_path(limit)}, per {counted}"


def rate_text(limit: RateLimit) -> str:
    """``100 per minute``, ``20 at once``."""
    if limit.algorithm == RateLimit.Algorithm.CONCURRENCY:
        return f"{limit.quota:,} at once"
    return f"{limit.quota:,} per {_window(limit)}"
