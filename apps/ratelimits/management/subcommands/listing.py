"""The limits as the admin lists them."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import conf, modes, wording
from ...models import RateLimit

HELP = "every limit: name, mode, rate, and what it covers"
EXAMPLES = """examples:
  manage.py ratelimit list
  manage.py ratelimit list --json

exit codes: 0 done; 1 there is no limit
"""
COLUMNS = ("name", "mode", "rate", "covers")


def add_arguments(parser: CommandParser) -> None:
    pass


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    rows = [
        {
            "name": limit.name,
            "mode": limit.mode,
            "rate": wording.rate_text(limit),
            "covers": wording.coverage(limit),
        }
        for limit in RateLimit.objects.all()
    ]
    disabled, before = conf.current().disabled, modes.restorable()
    if options["json"]:
        said = {"disabled": disabled, "limits": rows, "restorable": before}
        command.stdout.write(json.dumps(said, indent=1))
    else:
        _print(command, rows, disabled, before)
    if not rows:
        raise CommandError("There is no limit.")


def _print(
    command: BaseCommand, rows: list[dict[str, str]], disabled: bool, before: dict[str, str]
) -> None:
    if disabled:
        command.stdout.write("IOTA_DISABLED is set: nothing is enforced.\n")
    table = [dict(zip(COLUMNS, COLUMNS, strict=True)), *rows]
    widths = {column: max(len(row[column]) for row in table) for column in COLUMNS}
    for row in table:
        cells = (row[column].ljust(widths[column]) for column in COLUMNS)
        command.stdout.write("  ".join(cells).rstrip())
    if before:
        names = " ".join(f"{name}:{mode}" for name, mode in before.items())
        command.stdout.write(f"\nSwitched off by `disable`. To switch them on again:\n"
                             f"  manage.py ratelimit enable {names}")  # fmt: skip
