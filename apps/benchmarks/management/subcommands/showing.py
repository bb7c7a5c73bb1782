"""One run and all that it measured."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from . import tables

HELP = "a run and what it measured"
EXAMPLES = """examples:
  manage.py benchmark show 12
  manage.py benchmark show 12 --json

exit codes: 0 done; 2 there is no such run
"""


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("run", type=int, metavar="ID", help="as `list` shows it")


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    found = tables.run_of(options["run"])
    if options["json"]:
        command.stdout.write(json.dumps(tables.run_json(found), indent=1))
    else:
        command.stdout.write(tables.run_text(found))
