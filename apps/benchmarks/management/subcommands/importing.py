"""Runs that were measured elsewhere, or by another tool."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import foreign, revision
from ...described import described
from ...exchange import Found, Malformed, store
from ...fingerprint import of_this_machine
from . import exits

HELP = "runs of `export`, pytest-benchmark, redis-benchmark --csv or locust --json"
EXAMPLES = """examples:
  manage.py benchmark import history.jsonl
  python -m pytest tests/performance --benchmark-json=pytest.json
  manage.py benchmark import pytest.json
  redis-benchmark -n 100000 -c 50 -P 16 -t set,get --csv > redis.csv
  manage.py benchmark import redis.csv --machine staging
  locust --headless -t 1m --json > locust.json
  manage.py benchmark import locust.json --parameter users=1000 --this-code

Read again, a file changes nothing. A file is stored whole, or not at all.

exit codes: 0 done; 1 the file cannot be read; 2 it is not what it should be
"""
MAX_BYTES = 256 * 2**20
MAX_VALUE_CHARS = 40


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("file", metavar="FILE", help="- is stdin")
    parser.add_argument(
        "--format", choices=tuple(foreign.READERS), help="of the file (told by its beginning)"
    )
    parser.add_argument(
        "--machine",
        metavar="NAME",
        help="where it was measured, if the file does not say (this machine)",
    )
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="makes the metrics others than those of other values: how many users, which scenario",
    )
    parser.add_argument("--note", default="", help="kept with the runs")
    parser.add_argument(
        "--this-code", action="store_true", help="what was measured is the commit that is here"
    )


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    text, when = _read(options["file"])
    name = options["machine"]
    machine: dict[str, Any] = {"name": name[:60]} if name else {**of_this_machine()}
    try:
        kind = options["format"] or foreign.guess(text)
        if kind != "lines":
            machine["measured by"] = kind
        found = [_told(one, options) for one in foreign.read(text, kind, machine, when)]
        new, known = store(found)
    except Malformed as error:
        raise CommandError(f"{options['file']}: {error}", returncode=exits.USAGE) from error
    if options["json"]:
        command.stdout.write(json.dumps({"new": new, "known": known}))
    else:
        command.stdout.write(f"{new} runs are new, {known} were there already")


def _told(found: Found, options: dict[str, Any]) -> Found:
    """With what the command line says of it. Raises CommandError."""
    parameters = {}
    for given in options["parameter"]:
        name, equals, value = given.partition("=")
        if not equals or not re.fullmatch(r"\w{1,40}", name) or len(value) > MAX_VALUE_CHARS:
            raise CommandError(
                f"--parameter {given[:80]}: use NAME=VALUE, such as users=1000",
                returncode=exits.USAGE,
            )
        parameters[name] = int(value) if value.isdecimal() else value
    code = revision.current() if options["this_code"] else None
    return described(found, parameters, note=options["note"], code=code)


def _read(name: str) -> tuple[str, datetime]:
    """A file's text and when it was written. Raises CommandError."""
    try:
        if name == "-":
            return sys.stdin.read(MAX_BYTES), datetime.now(UTC)
        path = Path(name)
        about = path.stat()
        if about.st_size > MAX_BYTES:
            raise CommandError(f"{name}: over {MAX_BYTES // 2**20} MiB; import it in parts")
        return path.read_text(encoding="utf-8"), datetime.fromtimestamp(about.st_mtime, UTC)
    except OSError as error:
        raise CommandError(f"{name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{name}: not text", returncode=exits.USAGE) from error
