"""A preview as it is told to staff: sentences, tables, and the bars of its chart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from django.template.defaultfilters import pluralize
from django.utils.timezone import localtime

from ..policy.judging import Untold
from ..policy.preview import Preview, Side
from ..policy.rules import Algorithm, CountedBy, Counts, Mode, Rule

BAR_WIDTH, CHART_HEIGHT = 10, 60
SHORT_CHARS = 8
"""Of a digest, to tell it from others; the whole one is on hover."""

WHOM = {
    CountedBy.ADDRESS: "client",
    CountedBy.USER: "user",
    CountedBy.SESSION: "session",
    CountedBy.HEADER: "key",
    CountedBy.VIEW_ARGUMENT: "value",
}
WHY = {
    Untold.PATH: "whose path has an argument of which only a digest is kept",
    Untold.VIEW: "whose view is not known, as many were denied at once",
    Untold.HOST: "whose host a wildcard of ALLOWED_HOSTS let through: only a digest is kept",
    Untold.NETWORK: "of whose address only the network (/24, /48) is kept, which is wider than "
    "one that is named",
    Untold.USER: "with a session, of whom neither a limit nor the view asked who they are",
    Untold.GROUPS: "of users whose groups no limit has asked for",
    Untold.SESSION: "with a session that no limit has asked for",
    Untold.KEY: "whose key in the header no limit has asked for",
    Untold.DURATION: "that were streamed, or denied by this limit: how long they would have "
    "taken is not known",
}
ASKED_FOR = {Untold.USER, Untold.GROUPS, Untold.SESSION, Untold.KEY}


@dataclass(frozen=True, slots=True)
class Bar:
    """Of the chart, in its own units, from the top; ``was``: where the mark of the limit as it is
    stands."""

    x: int
    y: float
    height: float
    denied_y: float
    denied_height: float
    was_y: float
    at: datetime
    matched: int
    denied: int
    was_denied: int


@dataclass(frozen=True, slots=True)
class Line:
    kind: str
    name: str
    short: str
    matched: int
    denied: int


@dataclass(frozen=True, slots=True)
class Panel:
    records: int
    verdict: str
    beside: str
    said: str
    bars: tuple[Bar, ...]
    width: int
    begins: datetime | None
    ends: datetime | None
    step: str
    identities: tuple[Line, ...]
    paths: tuple[Line, ...]
    notes: tuple[str, ...]
    use: str
    suggested: int | None
    reason: str
    has_now: bool


def panel_of(found: Preview, draft: Rule, now: Rule | None) -> Panel:
    whom = _whom(draft)
    use, reason = _use(found, draft, whom)
    bars = tuple(_bars(found))
    return Panel(
        records=found.records,
        verdict=_verdict(found.draft, whom),
        beside=_beside(found.now, now),
        said=_said(found),
        bars=bars,
        width=max(1, len(bars)) * BAR_WIDTH,
        begins=_at(found.since_us) if found.records else None,
        ends=_at(found.until_us) if found.records else None,
        step=_span(found.step_us),
        identities=tuple(
            Line(row.kind, row.name, _short(row.name), row.matched, row.denied)
            for row in found.identities
        ),
        paths=tuple(
            Line(row.kind, row.name, row.name, row.matched, row.denied) for row in found.paths
        ),
        notes=tuple(_notes(found, draft)),
        use=use,
        suggested=found.use.suggested,
        reason=reason,
        has_now=found.now is not None,
    )


def _whom(rule: Rule) -> str:
    if CountedBy.EVERYONE in rule.counted_by:
        return ""
    return WHOM[rule.counted_by[0]] if len(rule.counted_by) == 1 else "combination"


def _numbers(side: Side, whom: str) -> str:
    """``12 of 340 requests, 2 of 40 clients``."""
    about = "about " if side.scaled > 1 else ""
    text = f"{about}{_n(side.denied * side.scaled)} of {_n(side.matched * side.scaled)} request"
    text += pluralize(side.matched * side.scaled)
    if whom:
        text += f", {_n(side.people_denied)} of {_n(side.people)} {whom}{pluralize(side.people)}"
    return text


def _verdict(side: Side, whom: str) -> str:
    if not side.matched:
        return "None of the recorded requests is one that this limit would decide."
    return f"Would have denied {_numbers(side, whom)}."


def _beside(side: Side | None, rule: Rule | None) -> str:
    if side is None or rule is None:
        return ""
    if not side.matched:
        return "As it is stored, it decides none of them."
    enforced = "" if rule.mode is Mode.ENFORCE else " (were it enforced)"
    return f"As it is stored{enforced}: {_numbers(side, _whom(rule))}."


def _said(found: Preview) -> str:
    if not found.records:
        return ""
    since, until = _at(found.since_us), _at(found.until_us)
    form = "%H:%M:%S" if since.date() == until.date() else "%d %b, %H:%M"
    text = f"Tried on {_n(found.records)} requests recorded from {since.strftime(form)} "
    text += f"to {until.strftime(form)}"
    if found.sample > 1:
        text += f", those of one in {_n(found.sample)} addresses"
    return f"{text}."


def _notes(found: Preview, draft: Rule) -> Iterator[str]:
    side = found.draft
    if side.untold:
        ordered = sorted(side.untold.items(), key=lambda pair: -pair[1])
        parts = "; ".join(f"{_n(number)} {WHY[Untold(why)]}" for why, number in ordered)
        number = sum(side.untold.values())
        text = f"{_n(number)} request{pluralize(number)} cannot be told, and are not counted "
        text += f"above: {parts}."
        if ASKED_FOR & {Untold(why) for why in side.untold}:
            text += " Save the limit in shadow: from then on they can be."
        yield text
    if side.others:
        yield (
            f"{_n(side.others)} more were denied by other limits; they are not charged to this "
            "one, and are not counted above."
        )
    if draft.counts is Counts.SIGNAL:
        yield "Signals are not recorded: it is told as if every request counted."
    elif side.assumed:
        yield (
            f"{_n(side.assumed)} requests that this limit denied are taken to count, since their "
            "response is not known."
        )
    if side.unlimited:
        yield f"{_n(side.unlimited)} of them are of someone whom an exception leaves unlimited."
    if side.scaled > 1:
        yield (
            "Everyone together is counted from a sample: the quota was divided by its size, and "
            "the numbers multiplied."
        )
    elif found.sample > 1 and draft.counted_by != (CountedBy.ADDRESS,):
        yield "Of a user, session or key only what came from an address of the sample is there."
    if found.lost:
        yield (
            f"At least {_n(found.lost)} requests are missing: more came at once than a process "
            "records."
        )
    if draft.active_from_us or draft.active_until_us:
        yield "From and until are left aside: it is told as if the limit were active."
    if draft.lease:
        yield "Units taken ahead are left aside: with them a denial may come a little earlier."
    if found.records and found.until_us - found.since_us < 3 * draft.rate.window_us:
        yield (
            "Everyone begins with a full quota here, and the record is short beside the limit's "
            "window: fewer are denied than would be."
        )


def _use(found: Preview, draft: Rule, whom: str) -> tuple[str, str]:
    use = found.use
    if use.suggested is None:
        return "", ""
    window = _span(draft.rate.window_us)
    what = "units" if draft.rate.cost > 1 else "requests"
    per = f"per {window}"
    if draft.rate.algorithm is Algorithm.CONCURRENCY:
        what, per = "requests", "at the same time"
    if not whom:
        return (
            f"All together made at most {_n(use.most)} {what} {per}.",
            f"{_n(use.suggested)}: what the busiest moment needed, rounded up.",
        )
    if use.identities >= 100:
        return (
            f"99 of 100 {whom}s stay within {_n(use.p99)} {what} {per}; 95 within {_n(use.p95)}, "
            f"half within {_n(use.p50)}; the busiest made {_n(use.most)}.",
            f"{_n(use.suggested)} leaves 99 of 100 {whom}s alone, at their busiest.",
        )
    if use.identities == 1:
        return (
            f"One {whom} came, and made at most {_n(use.most)} {what} {per}.",
            f"{_n(use.suggested)} leaves it alone. Of one, more cannot be said.",
        )
    many = f"{_n(use.identities)} {whom}{pluralize(use.identities)}"
    return (
        f"The busiest of {many} made {_n(use.most)} {what} {per}; half stay within {_n(use.p50)}.",
        f"{_n(use.suggested)} leaves all of them alone. Of so few, more cannot be said.",
    )


def _bars(found: Preview) -> Iterator[Bar]:
    highest = max((step.matched for step in found.series), default=0)
    highest = max([highest, 1, *(step.was_denied for step in found.series)])
    for place, step in enumerate(found.series):
        height = CHART_HEIGHT * step.matched / highest
        denied = CHART_HEIGHT * step.denied / highest
        was = CHART_HEIGHT * step.was_denied / highest
        yield Bar(
            x=place * BAR_WIDTH,
            y=round(CHART_HEIGHT - height, 1),
            height=round(height, 1),
            denied_y=round(CHART_HEIGHT - denied, 1),
            denied_height=round(denied, 1),
            was_y=round(CHART_HEIGHT - was, 1),
            at=_at(step.at_us),
            matched=step.matched,
            denied=step.denied,
            was_denied=step.was_denied,
        )


def _span(length_us: int) -> str:
    """``minute``, ``5 minutes``: after "per"."""
    seconds = length_us // 1_000_000
    for unit, name in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= unit and seconds % unit == 0:
            amount = seconds // unit
            return name if amount == 1 else f"{_n(amount)} {name}s"
    return f"{length_us / 1_000_000:g} seconds"


def _short(name: str) -> str:
    return " ".join(digest[:SHORT_CHARS] for digest in name.split(" ") if digest)


def _at(at_us: int) -> datetime:
    return localtime(datetime.fromtimestamp(at_us / 1_000_000, UTC))


def _n(number: int) -> str:
    return f"{number:,}"
