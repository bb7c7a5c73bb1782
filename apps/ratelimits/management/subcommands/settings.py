"""Each setting: what is in force, its default, what it may hold, what it does."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import conf
from ...options import MASK, OPTIONS, Option, masked

HELP = "every setting of the limiter: what is in force, its default, what it may hold"
EXAMPLES = """examples:
  manage.py ratelimit settings
  manage.py ratelimit settings --json

Secrets are masked. exit codes: 0 done; 1 the settings are wrong, and in what
"""


def add_arguments(parser: CommandParser) -> None:
    pass


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    wrong = conf.problems()
    config = None if wrong else conf.current()
    rows = [_row(option, config) for option in OPTIONS]
    if options["json"]:
        command.stdout.write(json.dumps({"settings": rows, "wrong": wrong}, indent=1))
    else:
        command.stdout.write("\n".join(_lines(rows)))
    if wrong:
        raise CommandError("\n".join(["Wrong:", *(f"  {problem}" for problem in wrong)]))


def _row(option: Option, config: conf.RateLimitConfig | None) -> dict[str, Any]:
    value = None if config is None else _plain(option, getattr(config, option.field))
    return {
        "name": option.name,
        "value": value,
        "default": None if option.required else _plain(option, option.default),
        "required": option.required,
        "allowed": option.allowed,
        "help": option.help,
    }


def _plain(option: Option, value: Any) -> Any:
    if option.secret:
        return MASK if value else ""
    if option.kind is tuple:
        return [str(item) for item in value]
    return masked(value) if option.kind is str else value


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    for row in rows:
        has = "not read" if row["value"] is None else repr(row["value"])
        default = "required" if row["required"] else f"default {row['default']!r}"
        lines.append(f"{row['name']} = {has}  ({default})")
        lines.append(f"  {row['help']} Allowed: {row['allowed']}.")
    return lines
