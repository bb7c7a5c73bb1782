"""``manage.py sweep``: the clean-up, from the server."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import clean_up
from ...models import RateLimit, SweepRun
from ...storage.sweep import RATE_PER_S

try:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
except ImportError:  # The limiter on its own does without.
    Progress = None  # type: ignore[assignment,misc]

EXAMPLES = """examples:
  manage.py sweep --dry-run           what would go, and how many each limit counts
  manage.py sweep                     to the end, at 10,000 keys a second
  manage.py sweep --budget-s 30 --rate 5000 --json

A run goes on where the last one ended.

exit codes: 0 done, or the budget is used up; 1 failed or stopped; 2 not understood; 4 another
sweep is under way
"""
FAILED, BUSY = 1, 4
MOST_SHOWN = 20
WORDS = (
    ("records", "records of limits that are gone, in buckets that stay"),
    ("entries", "stale entries of logs"),
    ("abandoned", "slots past their lease"),
    ("overrides", "overrides that ended a month ago"),
)

Report = Callable[[SweepRun], object]


class Command(BaseCommand):
    help = (
        "Remove from Redis what deleted and re-started limits have left, beside live traffic; and "
        "overrides that ended long ago."
    )

    def create_parser(self, *args: Any, **kwargs: Any) -> CommandParser:
        form = argparse.RawDescriptionHelpFormatter
        return super().create_parser(*args, epilog=EXAMPLES, formatter_class=form, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs")
        parser.add_argument("--dry-run", action="store_true", help="count, and remove nothing")
        parser.add_argument(
            "--budget-s", type=_positive, help="stop after so many seconds; default: at the end"
        )
        parser.add_argument(
            "--rate", type=_positive, default=RATE_PER_S, help="keys a second, at most: %(default)s"
        )

    def handle(self, **options: Any) -> None:
        try:
            with self._shown(options["dry_run"]) as report:
                run = clean_up.sweep(
                    SweepRun.Trigger.COMMAND,
                    budget_s=options["budget_s"],
                    rate_per_s=options["rate"],
                    dry_run=options["dry_run"],
                    report=report,
                )
        except clean_up.Busy as busy:
            message = f"{busy} Wait for its end, or stop it in the admin."
            raise CommandError(message, returncode=BUSY) from busy
        self.stdout.write(json.dumps(as_json(run), indent=1) if options["json"] else as_text(run))
        failed = run.failed_places
        if run.state != SweepRun.State.DONE or failed:
            why = "; ".join([run.error, *failed] if run.error else failed)
            raise CommandError(
                f"{run}: {run.get_state_display().lower()}. {why}".strip(), returncode=FAILED
            )

    @contextmanager
    def _shown(self, dry_run: bool) -> Iterator[Report]:
        """A bar on a terminal, nothing elsewhere; on stderr, as stdout is for what was found."""
        if Progress is None or not self.stderr.isatty():
            yield lambda run: None
            return
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}")
        with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task("counting" if dry_run else "sweeping", total=None, said="")

            def report(run: SweepRun) -> None:
                said = f"{run.seen:,} seen, {run.keys_removed:,} removed"
                seen = sum(place["seen"] for place in run.places)
                # How many of the servers' keys are ours is not known before the end.
                bar.update(task, completed=seen, total=max(seen, run.keys) or None, said=said)

            yield report


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: more than 0")
    return number


def as_json(run: SweepRun) -> dict[str, Any]:
    ended = run.ended_at or run.seen_at
    return {
        "run": run.pk,
        "state": run.state,
        "error": run.error,
        "dry_run": run.dry_run,
        "pass": run.pass_number,
        "pass_done": run.is_last,
        "took_s": round((ended - run.started_at).total_seconds(), 3),
        "seen": run.seen,
        "removed": run.removed,
        **{name: getattr(run, name) for name, _ in WORDS},
        "bounded": run.bounded,
        "left": run.left,
        "freed_bytes": run.freed_bytes,
        "identities": run.identities,
        "servers": [
            {name: place[name] for name in ("address", "keys", "seen", "done", "error")}
            for place in run.places
        ],
    }


def as_text(run: SweepRun) -> str:
    would = "would be removed" if run.dry_run else "removed"
    took_s = ((run.ended_at or run.seen_at) - run.started_at).total_seconds()
    kinds = ", ".join(f"{kind} {number:,}" for kind, number in sorted(run.removed.items()))
    lines = [
        f"{run.seen:,} keys of limits seen in {took_s:.1f} s, "
        f"{run.keys_removed:,} {would}{f' ({kinds})' if kinds else ''}"
    ]
    lines += [
        f"{getattr(run, name):,} {words} {would}" for name, words in WORDS if getattr(run, name)
    ]
    if run.bounded:
        verb = "would get" if run.dry_run else "got"
        lines.append(f"{run.bounded:,} keys without an end {verb} one")
    if run.left:
        lines.append(f"{run.left:,} left as they are: changed meanwhile, or of another form")
    if run.freed_bytes:
        lines.append(f"{run.freed_bytes:,} bytes of names and contents {would}")
    if run.dry_run and run.identities:
        lines += ["", "How many each limit counts:", *_limits(run.identities)]
    if run.state == SweepRun.State.DONE:
        lines.append("")
        lines.append(
            "All keys were seen." if run.is_last else "To be continued: the next run goes on here."
        )
    return "\n".join(lines)


def _limits(identities: dict[str, int]) -> Iterator[str]:
    names = {str(pk): name for pk, name in RateLimit.objects.values_list("pk", "name")}
    for number, count in list(identities.items())[:MOST_SHOWN]:
        yield f"  {count:>12,}  {names.get(number, f'limit {number}, which is gone')}"
    if (more := len(identities) - MOST_SHOWN) > 0:
        yield f"  and {more:,} limits more"
