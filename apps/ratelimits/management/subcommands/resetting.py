"""Forget what is counted of somebody, in every limit and process."""

from __future__ import annotations

import json
import logging
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...inspecting import as_dict, reset
from ...storage.errors import Unavailable
from . import asking
from .inspecting import write_down

HELP = "forget what is counted of somebody: every limit begins with its full quota"
EXAMPLES = """examples:
  manage.py ratelimit reset --ip 203.0.113.9 --dry-run
  manage.py ratelimit reset --ip 203.0.113.9 --user ada

Limits that count everyone together are left as they are. In force in every process within 1 s.

exit codes: 0 done, or there was nothing; 1 Redis does not answer; 2 wrong options
"""
logger = logging.getLogger(__name__)


def add_arguments(parser: CommandParser) -> None:
    asking.add_identity(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be forgotten")


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    engine, _, found = asking.identity(options)
    removed = 0
    if not options["dry_run"]:
        try:
            removed = reset(engine, found)
        except Unavailable as error:
            raise CommandError(
                f"Redis does not answer ({error}): it is not known whether it was done."
            ) from error
        logger.info("Reset by command: %s, %d keys", " ".join(found.digests), removed)
    if options["json"]:
        said = {**as_dict(found), "dry_run": options["dry_run"], "keys_removed": removed}
        command.stdout.write(json.dumps(said, indent=1))
        return
    write_down(command, found)
    limits = len(found.in_use)
    what = f"{found.used:,} used units in {limits:,} limit{'' if limits == 1 else 's'}"
    if options["dry_run"]:
        command.stdout.write(f"Would forget {what}.")
    else:
        command.stdout.write(f"Forgotten: {what}; in force in every process within 1 s.")
