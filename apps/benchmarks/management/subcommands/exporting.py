"""The history as JSON lines."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...exchange import export
from ...models import BenchmarkRun
from ...sets import SETS
from . import tables

HELP = "the history as JSON lines: timestamp, git_commit, results, and all the rest"
EXAMPLES = """examples:
  manage.py benchmark export history.jsonl
  manage.py benchmark export - --run 12 --run 13
  manage.py benchmark export main.jsonl --branch main --set full

exit codes: 0 done; 1 the file cannot be written; 2 there is no such run
"""


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("file", metavar="FILE", help="- is stdout; a file is replaced")
    parser.add_argument("--run", action="append", type=int, default=[], metavar="ID", dest="runs")
    parser.add_argument("--set", choices=tuple(SETS), dest="set_name")
    parser.add_argument("--branch")


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    asked = {name: options[name] for name in ("set_name", "branch") if options[name]}
    if options["runs"]:
        asked["pk__in"] = [tables.run_of(number).pk for number in options["runs"]]
    done = BenchmarkRun.objects.filter(state=BenchmarkRun.State.DONE, **asked)
    runs = done.select_related("machine").order_by("started_at", "pk")
    if options["file"] == "-":
        for line in export(runs.iterator(chunk_size=100)):
            command.stdout.write(line, ending="\n")
        return
    written = 0
    try:
        with open(options["file"], "w", encoding="utf-8") as file:
            for line in export(runs.iterator(chunk_size=100)):
                file.write(f"{line}\n")
                written += 1
    except OSError as error:
        raise CommandError(f"{options['file']}: {error.strerror}") from error
    command.stdout.write(f"{written} runs in {options['file']}")
