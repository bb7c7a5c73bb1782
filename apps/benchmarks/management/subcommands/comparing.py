"""Two runs of one machine beside each other."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...comparison import Comparison, Line, NotComparable, compare
from ...report import figure, markdown
from . import exits, tables

HELP = "two runs beside each other, metric by metric"
EXAMPLES = """examples:
  manage.py benchmark compare 9 12
  manage.py benchmark compare 9 12 --fail

Two single runs tell little: the same code is 3 % or 8 % away an hour later. A regression is
confirmed by reruns only (docs/guides/benchmarks.md).

exit codes: 0 compared; 1 with --fail, where a metric is worse by more than its threshold;
2 no such run, or they ran on different machines
"""


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("old", type=int, metavar="OLD", help="a run's number")
    parser.add_argument("new", type=int, metavar="NEW", help="another's")
    parser.add_argument("--fail", action="store_true", help="exit code 1 where something is worse")


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    old, new = tables.run_of(options["old"]), tables.run_of(options["new"])
    try:
        found = compare(new, old)
    except NotComparable as error:
        raise CommandError(str(error), returncode=exits.USAGE) from error
    if options["json"]:
        command.stdout.write(json.dumps(_as_json(found), indent=1))
    else:
        _print(command, found)
    worse = [line for line in found.lines if _far_worse(line)]
    if options["fail"] and worse:
        raise CommandError(f"{len(worse)} worse: {', '.join(str(one.metric) for one in worse)}")


def _far_worse(line: Line) -> bool:
    return line.verdict == "worse" and line.far and not line.metric.ignored


def _print(command: BaseCommand, found: Comparison) -> None:
    header = ("benchmark", "what", "contestant", "old", "new", "times as bad", "")
    rows = [
        (
            line.metric.benchmark,
            line.metric.metric,
            line.metric.contestant,
            figure(line.old, line.metric.unit),
            figure(line.new, line.metric.unit),
            f"{line.ratio:.2f}",
            line.verdict.upper() if _far_worse(line) else line.verdict,
        )
        for line in found.lines
    ]
    if rows:
        command.stdout.write(markdown(header, rows))
    command.stdout.write(found.sentence)
    for which, metrics in (("old", found.only_old), ("new", found.only_new)):
        if metrics:
            command.stdout.write(f"only in the {which} one: {', '.join(map(str, metrics))}")


def _as_json(found: Comparison) -> dict[str, Any]:
    return {
        "lines": [
            {
                "benchmark": line.metric.benchmark,
                "metric": line.metric.metric,
                "contestant": line.metric.contestant,
                "unit": line.metric.unit,
                "old": line.old,
                "new": line.new,
                "times_as_bad": line.ratio,
                "verdict": line.verdict,
                "over_threshold": line.far,
                "judged": not line.metric.ignored,
            }
            for line in found.lines
        ],
        "only_old": [str(metric) for metric in found.only_old],
        "only_new": [str(metric) for metric in found.only_new],
    }
