"""Whether the clean-up keeps up: when it last ran, and how that ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from django.utils import timezone

from apps.ratelimits import reading
from apps.ratelimits.storage.server_findings import Finding, Level

from ..look import Look, unknown
from ..registry import Topic, finding
from ..wording import in_time

RUNS = 20
OLD_S = 26 * 3_600
"""It is run each hour or each night: two hours of grace."""
LONG_S = 3_600
WHERE = "the clean-up"
GOOD = ("done", "complete", "completed", "finished")
UNDER_WAY = ("running", "started", "paused")
PAGE = "Run `manage.py sweep`"


@finding("clean-up", Topic.LIMITER, "Clean-up")
def clean_up(look: Look) -> Iterator[Finding]:
    yield from judge(reading.sweeps(RUNS), timezone.now())


def judge(runs: Sequence[reading.Sweep] | None, now: datetime) -> Iterator[Finding]:
    """``runs``: the newest first; None where this site has none."""
    if runs is None:
        yield unknown("when the store was cleaned", WHERE, "this site has no record of it", PAGE)
        return
    if not runs:
        yield Finding(
            Level.WARNING,
            "sweep-never",
            WHERE,
            "The store was never cleaned.",
            "no run is recorded",
            f"{PAGE}, and see that its periodic task is enabled and a worker runs.",
        )
        return
    newest = runs[0]
    done = next((run for run in runs if run.state in GOOD and run.ended_at), None)
    evidence = f"the last run began {_ago(newest.started_at, now)} ago: {newest.state}"
    if newest.ended_at:
        took_s = (newest.ended_at - newest.started_at).total_seconds()
        evidence += f", after {in_time(took_s)}"
    last = f"the last that came to its end {_ago(done.started_at, now)} ago" if done else ""
    whole = "; ".join(filter(None, (evidence, last or "none came to its end")))
    running_s = (now - newest.started_at).total_seconds()
    if newest.ended_at is None and newest.state in UNDER_WAY and running_s > LONG_S:
        yield Finding(
            Level.WARNING,
            "sweep-long",
            WHERE,
            "A clean-up has been running for long: its worker may have died.",
            whole,
            f"See the worker's log. {PAGE}: it goes on where the last one stopped.",
        )
    elif newest.ended_at is not None and newest.state not in GOOD:
        yield Finding(
            Level.WARNING,
            "sweep-failed",
            WHERE,
            "The last clean-up did not come to its end.",
            whole,
            f"See its page in the admin. {PAGE}.",
        )
    elif (now - (done or newest).started_at).total_seconds() > OLD_S:
        yield Finding(
            Level.WARNING,
            "sweep-old",
            WHERE,
            "The store has not been cleaned for more than a day.",
            whole,
            f"{PAGE}, and see that its periodic task is enabled and a worker runs.",
        )
    else:
        yield Finding(Level.INFO, "sweep", WHERE, "The store is cleaned in time.", whole)


def _ago(at: datetime, now: datetime) -> str:
    return in_time(max(0.0, (now - at).total_seconds()))
