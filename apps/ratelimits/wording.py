"""A limit in a sentence, for whoever edits it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .models import RateLimit
from .policy.rules import CountedBy
from .validators import split_lines

MAX_NAMED = 3
"""Of groups or networks; further ones are counted."""

MODES = {
    RateLimit.Mode.OFF: "Off; enforced it would say: ",
    RateLimit.Mode.SHADOW: "Shadow, which never blocks; enforced it would say: ",
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
    text = f"{_who(limit)}{_where(limit, groups)} may {_how_much(limit)}; the next request waits."
    return MODES[RateLimit.Mode(limit.mode)] + text


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
    which = f"{' or '.join(split_lines(limit.methods.upper())) or 'any method'} on {_path(limit)}"
    if limit.algorithm == RateLimit.Algorithm.CONCURRENCY:
        return f"have {limit.quota:,} requests at the same time, {which}"
    if limit.cost > 1:
        much = f"use {limit.rate_text().replace(' per', ' units per', 1)}, {limit.cost:,} a request"
    elif limit.quota == 1:
        much = f"call once {limit.rate_text().partition(' ')[2]}"
    else:
        much = f"call {limit.rate_text().replace(' per', ' times per', 1)}"
    if limit.algorithm == RateLimit.Algorithm.TOKEN_BUCKET and limit.effective_burst != limit.quota:
        much += f", at most {limit.effective_burst:,} at once"
    return f"{much}, {which}"


def _path(limit: RateLimit) -> str:
    kind = RateLimit.PathKind(limit.path_kind)
    if kind == RateLimit.PathKind.ANY:
        where = "every path"
    elif kind == RateLimit.PathKind.PREFIX:
        where = f"{limit.path}…"
    elif kind == RateLimit.PathKind.VIEW:
        where = f"the view {limit.path}"
    else:
        where = limit.path
    return f"{where} of {limit.host}" if limit.host else where
