"""Switch limits on again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import modes
from ...policy.rules import IN_FORCE, Mode
from .changing import add_common_arguments, carry_out

HELP = "switch limits on again, in every process within a second"
EXAMPLES = """examples:
  manage.py ratelimit enable login:enforce api-together:shadow search:canary
  manage.py ratelimit enable login
  manage.py ratelimit enable --all --reason "mended"

Without a mode a limit gets the one that it had before `disable`; --all means those that `disable`
switched off and nobody edited since.

exit codes: 0 done, or they were on already; 1 no such limit, or Redis did not hear of it
"""
ON = [mode.value for mode in Mode if mode in IN_FORCE]


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        "names", nargs="*", metavar="NAME[:MODE]", help=f"of a limit; {' or '.join(ON)}"
    )
    parser.add_argument("--all", action="store_true", help="those that `disable` switched off")
    add_common_arguments(parser)


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    if options["all"] == bool(options["names"]):
        raise CommandError("Name limits, or write --all.", returncode=2)
    before = modes.restorable()
    if options["all"] and not before:
        raise CommandError("No limit is off because of `manage.py ratelimit disable`.")
    wanted = before if options["all"] else dict(_wanted(text, before) for text in options["names"])
    carry_out(command, wanted, options, done="on")


def _wanted(text: str, before: dict[str, str]) -> tuple[str, str]:
    name, _, mode = text.partition(":")
    mode = mode or before.get(name, "")
    if mode not in ON:
        known = f"{mode!r} is no mode" if mode else f"which mode {name} had is not known"
        choices = " or ".join(f"{name}:{choice}" for choice in ON)
        raise CommandError(f"{known}: write {choices}.", returncode=2)
    return name, mode
