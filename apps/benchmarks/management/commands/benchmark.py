"""``manage.py benchmark``: measures, and says what met its target."""

from __future__ import annotations

import argparse
import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import cores, load, report
from ...records import Result
from ...registry import Benchmark, Run, UnknownBenchmark, load_suites
from ...servers import ServerFailed, embedded_valkey, stopped_by_sigterm
from ...targets import Outcome, Row, judge

ROUNDS = 15
USAGE_ERROR = 2

EXAMPLES = """examples:
  manage.py benchmark targets
  manage.py benchmark targets --row one-limit --row denied --rounds 5
  manage.py benchmark targets --json > targets.json

exit codes: 0 every target is met, 1 one is missed or could not be measured, 2 wrong options
"""


class Command(BaseCommand):
    help = "Measure the limiter."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        subcommands = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
        targets = subcommands.add_parser(
            "targets",
            help="measure beside the floor and the peers, and compare with the targets",
            description="Measures each row of DESIGN section 5 that concerns the limiter, on a "
            "Valkey of its own, beside redis-py's own EVALSHA and the peers.",
            epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        targets.add_argument("--json", action="store_true", help="JSON with every sample")
        targets.add_argument(
            "--row",
            action="append",
            default=[],
            metavar="NAME",
            help="only this row; may be repeated (a wrong name lists them all)",
        )
        targets.add_argument(
            "--rounds", type=_positive, default=ROUNDS, help=f"samples of each ({ROUNDS})"
        )

    def handle(self, *, subcommand: str, **options: Any) -> None:
        try:
            chosen = load_suites().named(options["row"])
        except UnknownBenchmark as error:
            raise CommandError(error.args[0], returncode=USAGE_ERROR) from error
        try:
            self._targets(chosen, options["rounds"], as_json=options["json"])
        except ServerFailed as error:
            raise CommandError(str(error)) from error

    def _targets(self, chosen: list[Benchmark], rounds: int, *, as_json: bool) -> None:
        rows: list[Row] = []
        results: list[Result] = []
        with _prepared(rounds) as run:
            about = report.machine(run, load.generator())
            for number, one in enumerate(chosen, 1):
                self.stderr.write(f"{number} of {len(chosen)}: {one.name}", ending="\n")
                outcome = self._measure(one, run)
                rows += [judge(one.name, target, outcome, one.peers) for target in one.targets]
                results += sorted(
                    outcome.results.values(),
                    key=lambda result: result.p50,
                    reverse=one.direction == "higher",
                )
        if as_json:
            self.stdout.write(json.dumps(report.as_json(rows, results, about), indent=1))
        else:
            self._print(rows, results, about)
        met, missed = report.summary(rows)
        if missed:
            names = ", ".join(dict.fromkeys(row.benchmark for row in missed))
            raise CommandError(f"{len(missed)} of {met + len(missed)} targets missed: {names}")

    def _measure(self, one: Benchmark, run: Run) -> Outcome:
        """An error ends this benchmark, not the others: its targets are missed."""
        try:
            return one.measure(run)
        except Exception as error:
            self.stderr.write("".join(traceback.format_exception(error)))
            return Outcome(error=f"{type(error).__name__}: {error}")

    def _print(self, rows: list[Row], results: list[Result], about: dict[str, str]) -> None:
        for name, value in about.items():
            self.stdout.write(f"{name}: {value}")
        self.stdout.write(f"\n{report.rows_table(rows)}\n\n{report.results_table(results)}\n")
        met, missed = report.summary(rows)
        self.stdout.write(f"{met} of {met + len(missed)} targets met")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("use 1 or more")
    return number


@contextmanager
def _prepared(rounds: int) -> Iterator[Run]:
    """A server on the same core as this process, for as long as the run takes."""
    found = cores.usable()
    core, load_core = (found[0], found[-1]) if found else (None, None)
    with (
        stopped_by_sigterm(),
        cores.pinned(core),
        embedded_valkey() as server,
        redis.Redis.from_url(server.url) as client,
    ):
        yield Run(server, client, rounds, core, load_core)
