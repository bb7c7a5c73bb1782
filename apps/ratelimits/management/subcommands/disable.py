"""Switch limits off: the way back where one of them locks staff out."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...models import RateLimit
from .changing import add_common_arguments, carry_out

HELP = "switch limits off, in every process within a second"
EXAMPLES = """examples:
  manage.py ratelimit disable --all
  manage.py ratelimit disable --all --dry-run
  manage.py ratelimit disable login api-per-address --reason "partners are locked out"

The history has it under "manage.py ratelimit disable", with the reason. It
prints the command that switches them on again, each in the mode that it had.
Drafts are not in force, and stay drafts.

exit codes: 0 done, or they were off already; 1 no such limit, or Redis did not hear of it
"""


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a limit")
    parser.add_argument("--all", action="store_true", help="every limit")
    add_common_arguments(parser)


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    if options["all"] == bool(options["names"]):
        raise CommandError("Name limits, or write --all.", returncode=2)
    names = options["names"]
    if options["all"]:
        names = list(RateLimit.objects.values_list("name", flat=True))
        if not names:
            raise CommandError("There is no limit.")
    drafts = RateLimit.objects.filter(mode=RateLimit.Mode.DRAFT, name__in=names)
    wanted = dict.fromkeys(names, RateLimit.Mode.OFF.value)
    wanted |= dict.fromkeys(drafts.values_list("name", flat=True), RateLimit.Mode.DRAFT.value)
    carry_out(command, wanted, options, done="off")
