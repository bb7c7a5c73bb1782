"""``manage.py ratelimit``: the limits, from the server."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from ..subcommands import (
    disable,
    enable,
    explaining,
    exporting,
    importing,
    inspecting,
    listing,
    preview,
    resetting,
    settings,
    upkeep,
)

SUBCOMMANDS: Mapping[str, ModuleType] = {
    "list": listing,
    "preview": preview,
    "explain": explaining,
    "inspect": inspecting,
    "reset": resetting,
    "disable": disable,
    "enable": enable,
    "export": exporting,
    "import": importing,
    "settings": settings,
    "upkeep": upkeep,
}


class Command(BaseCommand):
    help = (
        "List the limits, explain a request, look at an identity and reset it; switch limits off "
        "and on; export and import them; show the settings; "
        "do what is due. The way back where one locks staff out."
    )
    requires_system_checks = []  # Nothing that is wrong with the site may stand in the way back.

    def add_arguments(self, parser: CommandParser) -> None:
        chosen = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
        for name, module in SUBCOMMANDS.items():
            subparser = chosen.add_parser(
                name,
                help=module.HELP,
                description=module.HELP,
                epilog=module.EXAMPLES,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            subparser.add_argument("--json", action="store_true", help="for programs")
            module.add_arguments(subparser)

    def handle(self, *, subcommand: str, **options: Any) -> None:
        try:
            SUBCOMMANDS[subcommand].run(self, options)
        except DatabaseError as error:
            # PostgreSQL tells of the statement in further lines.
            why = str(error).partition("\n")[0]
            raise CommandError(
                f"The database does not answer ({why}). Limits can still be switched off: "
                "restart the site with IOTA_DISABLED=1."
            ) from error
