"""Where somebody stands with every limit that counts them."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...inspecting import Inspection, as_dict
from . import asking

HELP = "where somebody stands with every limit that counts them"
EXAMPLES = """examples:
  manage.py ratelimit inspect --ip 203.0.113.9
  manage.py ratelimit inspect --ip 203.0.113.9 --user ada --header "X-Api-Key: k" --json
  manage.py ratelimit inspect --digest 3q2-7wAAAAAAAAAAAAAA

Nothing is charged.

exit codes: 0 done; 1 no limit counts them, or Redis does not answer; 2 wrong options
"""


def add_arguments(parser: CommandParser) -> None:
    asking.add_identity(parser)


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    _, _, found = asking.identity(options)
    if options["json"]:
        command.stdout.write(json.dumps(as_dict(found), indent=1))
    else:
        write_down(command, found)
    if not found.counters:
        raise CommandError("No limit counts them.")


def write_down(command: BaseCommand, found: Inspection) -> None:
    write = command.stdout.write
    write(found.whom)
    width = max((len(one.name) for one in found.counters), default=0)
    for one in found.counters:
        mode = "" if one.mode == "enforce" else f" ({one.mode})"
        write(f"  {one.name.ljust(width)}  {one.bar.text}{mode}")
        for text in one.said:
            write(f"  {' ' * width}  {text}")
    for text in found.warnings:
        write(text)
    if found.apart:
        write(f"{found.apart:,} more count by something that was not named.")
