"""``manage.py prometheus``: what a Prometheus beside the site needs of it."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ...prometheus.alerts import exported_rules
from ...prometheus.families import as_markdown
from ...prometheus.rules import as_file

EXAMPLES = """examples:
  manage.py prometheus rules > /etc/prometheus/iota-rules.yml && promtool check rules /etc/prometheus/iota-rules.yml
  manage.py prometheus names

exit codes: 0 written, 1 the database or the command line is wrong. It changes nothing.
"""  # noqa: E501
WHAT = {
    "rules": "the alert rules of the admin, as a file that prometheus.yml names in rule_files",
    "names": "all that /metrics exposes, as a table",
}


class Command(BaseCommand):
    help = "Write the alert rules, or the names of /metrics, for Prometheus."
    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(
            prog_name,
            subcommand,
            epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **kwargs,
        )

    def add_arguments(self, parser: CommandParser) -> None:
        told = "; ".join(f"{what}: {text}" for what, text in WHAT.items())
        parser.add_argument("what", choices=WHAT, help=told)

    def handle(self, **options: Any) -> None:
        rules = options["what"] == "rules"
        self.stdout.write(as_file(exported_rules()) if rules else as_markdown(), ending="")
