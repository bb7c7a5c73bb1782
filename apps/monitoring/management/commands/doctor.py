"""``manage.py doctor``: what is wrong, on what evidence, and what to do."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.ratelimits.storage.server_findings import Finding, Level

from ...registry import load_hooks

EXIT_CODES = {Level.ERROR: 2, Level.WARNING: 1, Level.UNKNOWN: 1, Level.INFO: 0}

EXAMPLES = """examples:
  manage.py doctor
  manage.py doctor --json > findings.json
  IOTA_REDIS_OPERATOR_URL=redis://iota-operator:...@host:6379/0 manage.py doctor

exit codes: 0 nothing worse than information, 1 a warning or something that cannot be known,
2 an error. It changes nothing, and waits a second at most for each answer of each server.
"""


class Command(BaseCommand):
    help = "Look at the limiter and its servers, and say what is wrong, the worst first."
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
        parser.add_argument("--json", action="store_true", help="findings as JSON")

    def handle(self, **options: Any) -> None:
        findings = load_hooks().diagnose()
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(findings), indent=1))
        else:
            for finding in findings:
                self.stdout.write(f"{_as_text(finding)}\n\n")
            self.stdout.write(_summary(findings))
        if code := exit_code(findings):
            sys.exit(code)


def exit_code(findings: list[Finding]) -> int:
    return max((EXIT_CODES[finding.level] for finding in findings), default=0)


def _as_json(findings: list[Finding]) -> dict[str, Any]:
    worst = findings[0].level if findings else None
    return {"worst": worst, "findings": [asdict(finding) for finding in findings]}


def _as_text(finding: Finding) -> str:
    lines = [f"{finding.level.upper():<7}  {finding.what}"]
    for name, value in (
        ("where", finding.where),
        ("evidence", finding.evidence),
        ("to do", finding.to_do),
    ):
        if value:
            lines.append(f"         {name + ':':<10}{value}")
    return "\n".join(lines)


def _summary(findings: list[Finding]) -> str:
    counted = Counter(finding.level for finding in findings)
    return ", ".join(f"{level}: {counted[level]}" for level in Level)
