"""What is measured beside the floor and the peers, and what met its target."""

from __future__ import annotations

import argparse
import json
import traceback
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import load, report
from ...prepared import prepared
from ...records import Result
from ...registry import Benchmark, Run, UnknownBenchmark, load_suites
from ...servers import ServerFailed, stopped_by_sigterm
from ...targets import Outcome, Row, judge
from . import exits
from .progress import shown

ROUNDS = 15

HELP = "measure beside the floor and the peers, and compare with the targets"
DESCRIPTION = """Measures each row of DESIGN section 5 that concerns the limiter, on a
Valkey of its own, beside redis-py's own EVALSHA and the peers."""
EXAMPLES = """examples:
  manage.py benchmark targets
  manage.py benchmark targets --row one-limit --row denied --rounds 5
  manage.py benchmark targets --json > targets.json

exit codes: 0 every target is met, 1 one is missed or could not be measured, 2 wrong options
"""


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help="JSON with every sample")
    parser.add_argument(
        "--row",
        action="append",
        default=[],
        metavar="NAME",
        help="only this row; may be repeated (a wrong name lists them all)",
    )
    parser.add_argument(
        "--rounds", type=positive, default=ROUNDS, help=f"samples of each ({ROUNDS})"
    )


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("use 1 or more")
    return number


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    try:
        named = load_suites().named(options["row"])
    except UnknownBenchmark as error:
        raise CommandError(error.args[0], returncode=exits.USAGE) from error
    # What has no target is for ``run``; whoever names it gets it.
    chosen = [one for one in named if one.targets or options["row"]]
    try:
        _measure_all(command, chosen, options["rounds"], as_json=options["json"])
    except ServerFailed as error:
        raise CommandError(str(error)) from error


def _measure_all(
    command: BaseCommand, chosen: list[Benchmark], rounds: int, *, as_json: bool
) -> None:
    rows: list[Row] = []
    results: list[Result] = []
    with stopped_by_sigterm(), prepared(rounds) as given, shown(command, "targets") as tell:
        about = report.machine(given, load.generator())
        for number, one in enumerate(chosen):
            tell(number, len(chosen), one.name)
            outcome = _measure(command, one, given)
            rows += [judge(one.name, target, outcome, one.peers) for target in one.targets]
            results += sorted(
                outcome.results.values(),
                key=lambda result: result.p50,
                reverse=one.direction == "higher",
            )
        tell(len(chosen), len(chosen), "")
    if as_json:
        command.stdout.write(json.dumps(report.as_json(rows, results, about), indent=1))
    else:
        _print(command, rows, results, about)
    met, missed = report.summary(rows)
    if missed:
        names = ", ".join(dict.fromkeys(row.benchmark for row in missed))
        raise CommandError(f"{len(missed)} of {met + len(missed)} targets missed: {names}")


def _measure(command: BaseCommand, one: Benchmark, given: Run) -> Outcome:
    """An error ends this benchmark, not the others: its targets are missed."""
    try:
        return one.measure(given)
    except Exception as error:
        command.stderr.write("".join(traceback.format_exception(error)))
        return Outcome(error=f"{type(error).__name__}: {error}")


def _print(
    command: BaseCommand, rows: list[Row], results: list[Result], about: dict[str, str]
) -> None:
    for name, value in about.items():
        command.stdout.write(f"{name}: {value}")
    command.stdout.write(f"\n{report.rows_table(rows)}\n\n{report.results_table(results)}\n")
    met, missed = report.summary(rows)
    command.stdout.write(f"{met} of {met + len(missed)} targets met")
