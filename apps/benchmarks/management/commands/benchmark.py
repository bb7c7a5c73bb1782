"""``manage.py benchmark``: measures, keeps what was measured, and compares."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ..subcommands import comparing, exporting, importing, listing, running, showing, targets

SUBCOMMANDS: Mapping[str, ModuleType] = {
    "run": running,
    "list": listing,
    "show": showing,
    "compare": comparing,
    "export": exporting,
    "import": importing,
    "targets": targets,
}


class Command(BaseCommand):
    help = "Measure the limiter, keep what was measured, and compare."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        chosen = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
        for name, module in SUBCOMMANDS.items():
            subparser = chosen.add_parser(
                name,
                help=module.HELP,
                description=getattr(module, "DESCRIPTION", module.HELP),
                epilog=module.EXAMPLES,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            if module not in (targets, exporting):
                subparser.add_argument("--json", action="store_true", help="for programs")
            module.add_arguments(subparser)

    def handle(self, *, subcommand: str, **options: Any) -> None:
        SUBCOMMANDS[subcommand].run(self, options)
