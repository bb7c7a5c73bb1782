"""A run, here and now, without a worker; judged, and its suspects repeated."""

from __future__ import annotations

import json
import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from ...judging import RERUNS, judge_run
from ...models import BenchmarkRun, Regression
from ...recording import Busy, mark_lost, record
from ...registry import Benchmark, UnknownBenchmark, load_suites
from ...reruns import make_reruns
from ...servers import stopped_by_sigterm
from ...sets import SETS
from . import exits, tables
from .progress import shown
from .targets import positive

HELP = "measure a set, or single benchmarks, and keep what they measured"
EXAMPLES = f"""examples:
  manage.py benchmark run --set quick
  manage.py benchmark run --benchmark one-limit --benchmark redis-ping --note "new kernel"
  manage.py benchmark run --set full --json > run.json

It is held against the runs before it on this machine and branch; what looks slower than
them is measured {RERUNS} times more (--no-rerun: is left as a suspect).

exit codes: 0 measured, and nothing is confirmed to be slower; 1 a benchmark failed, or the run did
not end; 2 wrong options; 3 a regression is confirmed; 4 another run is being measured
"""


def add_arguments(parser: CommandParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--set", choices=tuple(SETS), dest="set_name", help="a set of benchmarks")
    what.add_argument(
        "--benchmark",
        action="append",
        default=[],
        metavar="NAME",
        help="only this one; may be repeated (a wrong name lists them all)",
    )
    parser.add_argument("--rounds", type=positive, help="samples of each (by the set: 7 or 15)")
    parser.add_argument("--note", default="", help="kept with the run")
    parser.add_argument("--no-rerun", action="store_true", help="do not repeat what is suspect")


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    set_name, names = options["set_name"] or "", options["benchmark"]
    registry = load_suites()
    try:
        chosen = registry.in_set(set_name) if set_name else registry.named(names)
    except UnknownBenchmark as error:
        raise CommandError(error.args[0], returncode=exits.USAGE) from error
    trigger = BenchmarkRun.Trigger.CI if os.environ.get("CI") else BenchmarkRun.Trigger.COMMAND
    mark_lost()  # A site without a worker has nobody else to find them.
    row = BenchmarkRun.objects.create(
        trigger=trigger, set_name=set_name, chosen=names, note=options["note"]
    )
    with stopped_by_sigterm():
        _record(command, row, chosen, options["rounds"])
        judged = _judge(command, row, options)
    _say(command, row, judged, as_json=options["json"])
    if row.state != BenchmarkRun.State.DONE:
        raise CommandError(f"{row} {row.get_state_display().lower()}")
    confirmed = [
        one for one in judged if one.state == Regression.State.CONFIRMED and not one.better
    ]
    if confirmed:
        text = "; ".join(f"{one.metric} {one.ratio:.2f} times as bad" for one in confirmed)
        raise CommandError(f"confirmed: {text}", returncode=exits.CONFIRMED)
    if row.errors:
        raise CommandError(f"{len(row.errors)} of {row.total} benchmarks failed")


def _record(
    command: BaseCommand,
    row: BenchmarkRun,
    chosen: list[Benchmark] | None,
    rounds: int | None,
) -> None:
    try:
        with shown(command, str(row)) as report:
            record(row, chosen, rounds, report=report)
    except Busy as busy:
        row.delete()
        raise CommandError(f"{busy}: wait for its end, or stop it", returncode=exits.BUSY) from busy


def _judge(command: BaseCommand, row: BenchmarkRun, options: dict[str, Any]) -> list[Regression]:
    """What the run opened, as it stands after the reruns."""
    reruns: list[BenchmarkRun] = []

    def rerun(run: BenchmarkRun, number: int) -> None:
        if not options["no_rerun"]:
            reruns.extend(make_reruns(run, number))

    opened = judge_run(row, rerun)
    try:
        for number, one in enumerate(reruns, 1):
            command.stderr.write(f"suspect: rerun {number} of {len(reruns)}", ending="\n")
            _record(command, one, None, options["rounds"])
            judge_run(one, rerun)
    finally:
        # Interrupted: nobody else would ever take them, and the suspect would wait for them.
        waiting = BenchmarkRun.objects.filter(rerun_of=row, state=BenchmarkRun.State.QUEUED)
        waiting.update(state=BenchmarkRun.State.STOPPED, ended_at=timezone.now())
    pks = [one.pk for one in opened]
    return list(Regression.objects.filter(pk__in=pks).select_related("metric").order_by("pk"))


def _say(
    command: BaseCommand, row: BenchmarkRun, judged: list[Regression], *, as_json: bool
) -> None:
    if as_json:
        found = {
            **tables.run_json(row),
            "regressions": [
                {
                    "metric": str(one.metric),
                    "state": one.state,
                    "better": one.better,
                    "ratio": one.ratio,
                    "p_value": one.p_value,
                }
                for one in judged
            ],
        }
        command.stdout.write(json.dumps(found, indent=1))
        return
    command.stdout.write(tables.run_text(row))
    for one in judged:
        way = "better" if one.better else "worse"
        times = 1 / one.ratio if one.better and one.ratio else one.ratio
        command.stdout.write(f"{one.get_state_display()}: {one.metric} {times:.2f} times {way}")
