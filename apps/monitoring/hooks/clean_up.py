"""Whether the clean-up keeps up: when it last ran, and how that ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from django.utils import timezone

from apps.ratelimits import reading
from apps.ratelimits.storage.server_findings import Finding, Level

from ..amounts import in_time
from ..look import Look, unknown
from ..registry import Topic, finding

OLD_S = 26 * 3_600
LONG_S = 3_600
WHERE = "the clean-up"
BROKEN = ("failed", "lost")
SWEEP = "Run `manage.py sweep`"
SCHEDULE = f"{SWEEP}, and see that its periodic task is enabled and that a worker runs."


@finding("clean-up", Topic.LIMITER, "Clean-up")
def clean_up(look: Look) -> Iterator[Finding]:
    yield judge(reading.last_sweeps(), timezone.now())


def judge(runs: Sequence[reading.Sweep] | None, now: datetime) -> Finding:
    """``runs``: the newest, and the newest that ended a pass; None where this site has none."""
    if runs is None:
        why = "this site keeps no record of it"
        return unknown("when the store was cleaned", WHERE, why, f"{SWEEP}.")
    if not runs:
        return _wrong("sweep-never", "The store was never cleaned.", "no run", SCHEDULE)
    newest, whole = runs[0], next((run for run in runs if run.whole), None)
    age_s = (now - newest.started_at).total_seconds()
    said = [f"the last run began {in_time(max(0.0, age_s))} ago: {newest.state}"]
    if newest.ended_at:
        took_s = (newest.ended_at - newest.started_at).total_seconds()
        said[0] += f", after {in_time(took_s)}"
    whole_s = (now - whole.started_at).total_seconds() if whole else None
    if whole_s is None:
        said.append("no pass through all keys has come to its end")
    else:
        said.append(f"the last pass through all keys ended with the run of {in_time(whole_s)} ago")
    evidence = "; ".join(said)
    if newest.state in BROKEN:
        to_do = f"See its page in the admin, and the worker's log. {SWEEP}: it goes on there."
        return _wrong("sweep-failed", "The last clean-up was broken off.", evidence, to_do)
    if newest.ended_at is None and age_s > LONG_S:
        what = "A clean-up has been running for long: its worker may have died."
        return _wrong("sweep-long", what, evidence, f"See the worker's log. {SWEEP}.")
    if age_s > OLD_S:
        what = "The store has not been cleaned for more than a day."
        return _wrong("sweep-old", what, evidence, SCHEDULE)
    if whole_s is None or whole_s > OLD_S:
        what = "The clean-up does not get through all keys in a day."
        to_do = "Let it run for longer or more often: its periodic task in the admin (budget_s)."
        if whole_s is not None or newest.ended_at is not None:
            return _wrong("sweep-behind", what, evidence, to_do)
    return Finding(Level.INFO, "sweep", WHERE, "The store is cleaned in time.", evidence)


def _wrong(code: str, what: str, evidence: str, to_do: str) -> Finding:
    return Finding(Level.WARNING, code, WHERE, what, evidence, to_do)
