"""``manage.py doctor``: what is wrong, on what evidence, and what to do."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from apps.ratelimits.storage.server_findings import Finding, Level

from ... import registry
from ...look import Look
from ...registry import Outcome, Registry, found_by, load_hooks

EXIT_CODES = {Level.ERROR: 2, Level.WARNING: 1, Level.UNKNOWN: 1, Level.INFO: 0}

EXAMPLES = """examples:
  manage.py doctor
  manage.py doctor --only latency,slow-commands
  manage.py doctor --list
  manage.py doctor --json > findings.json
  IOTA_REDIS_OPERATOR_URL=redis://iota-operator:...@host:6379/0 manage.py doctor

exit codes: 0 nothing worse than information, 1 a warning or something that cannot be known,
2 an error. It changes nothing, and waits a second at most for each answer of each server.
What each finding means: docs/guides/doctor.md.
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
        parser.add_argument(
            "--only", metavar="NAME,...", default="", help="these parts of the diagnosis alone"
        )
        parser.add_argument("--list", action="store_true", help="the parts that there are")

    def handle(self, **options: Any) -> None:
        hooks = load_hooks()
        if options["list"]:
            self._list(hooks, as_json=options["json"])
            return
        only = [name for name in options["only"].split(",") if name]
        look = Look()
        try:
            with self._progress() as progress:
                outcomes = hooks.diagnose(look, only, progress)
        except ValueError as error:
            raise CommandError(f"{error}.") from error
        finally:
            look.close()
        findings = found_by(outcomes)
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(outcomes), indent=1))
        else:
            for finding in findings:
                self.stdout.write(f"{_as_text(finding)}\n\n")
            self.stdout.write(_summary(findings))
        if code := exit_code(findings):
            sys.exit(code)

    def _list(self, hooks: Registry, *, as_json: bool) -> None:
        if as_json:
            rows = [{"name": one.name, "topic": one.topic, "title": one.title} for one in hooks]
            self.stdout.write(json.dumps(rows, indent=1))
            return
        for topic in registry.Topic:
            self.stdout.write(topic)
            for entry in hooks:
                if entry.topic is topic:
                    self.stdout.write(f"  {entry.name:<15} {entry.title}")

    @contextmanager
    def _progress(self) -> Iterator[registry.Progress | None]:
        """A bar where a person watches; it is gone in the end."""
        if not self.stderr.isatty():
            yield None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        console = Console(stderr=True)
        with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
            task = bar.add_task("", total=None)

            def told(done: int, total: int, title: str) -> None:
                bar.update(task, completed=done, total=total, description=title)
                bar.refresh()

            yield told


def exit_code(findings: Sequence[Finding]) -> int:
    return max((EXIT_CODES[finding.level] for finding in findings), default=0)


def _as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    findings = found_by(outcomes)
    part = {id(one): outcome for outcome in outcomes for one in outcome.findings}
    return {
        "worst": findings[0].level if findings else None,
        "took_s": {outcome.name: round(outcome.took_s, 3) for outcome in outcomes},
        "findings": [
            {**asdict(one), "part": part[id(one)].name, "topic": part[id(one)].topic}
            for one in findings
        ],
    }


def _as_text(finding: Finding) -> str:
    lines = [f"{finding.level.upper():<7}  {finding.what}"]
    for name, value in (
        ("where", finding.where),
        ("evidence", finding.evidence),
        ("to do", finding.to_do),
        ("code", finding.code if finding.level is not Level.INFO else ""),
    ):
        if value:
            lines.append(f"         {name + ':':<10}{value}")
    return "\n".join(lines)


def _summary(findings: Sequence[Finding]) -> str:
    counted = Counter(finding.level for finding in findings)
    return ", ".join(f"{level}: {counted[level]}" for level in Level)
