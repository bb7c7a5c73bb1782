"""The runs there are, the newest first."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ...models import BenchmarkRun
from ...sets import SETS
from . import tables
from .targets import positive

HELP = "the runs there are, the newest first"
EXAMPLES = """examples:
  manage.py benchmark list
  manage.py benchmark list --set full --branch main --limit 5
  manage.py benchmark list --state lost --json

exit codes: 0 done, also where there is none; 2 wrong options
"""
LIMIT = 20


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--set", choices=tuple(SETS), dest="set_name")
    parser.add_argument("--branch")
    parser.add_argument("--state", choices=BenchmarkRun.State.values)
    parser.add_argument("--limit", type=positive, default=LIMIT, help=f"the newest ({LIMIT})")


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    asked = {name: options[name] for name in ("set_name", "branch", "state") if options[name]}
    found = BenchmarkRun.objects.filter(**asked).select_related("machine")
    runs = list(found[: options["limit"]])
    if options["json"]:
        rows = [
            {
                "run": run.pk,
                "state": run.state,
                "set": run.set_name,
                "benchmarks": run.chosen,
                "trigger": run.trigger,
                "git_commit": run.commit,
                "dirty": run.dirty,
                "branch": run.branch,
                "machine": run.machine.fingerprint if run.machine else None,
                "queued": run.queued_at.isoformat(),
            }
            for run in runs
        ]
        command.stdout.write(json.dumps(rows, indent=1))
    elif runs:
        command.stdout.write(tables.runs_table(runs))
    else:
        command.stdout.write("No such run. `manage.py benchmark run --set quick` makes one.")
