"""Why a request would be allowed or denied; nothing is charged."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...explain import Question, explain
from ...explained import Explanation, Row, as_dict
from . import asking

HELP = "why a request would be allowed or denied: every limit, and where its counter stands"
EXAMPLES = """examples:
  manage.py ratelimit explain --method GET --path /api/test --ip 203.0.113.9 --user ada \\
      --header "X-Api-Key: k"
  manage.py ratelimit explain --path https://example.com/api/test --ip 10.0.0.1 \\
      --forwarded-for "198.51.100.7, 10.0.0.2" --json

Nothing is charged.

exit codes: 0 it would be allowed; 1 it cannot be told; 2 wrong options; 3 it would be denied
"""
DENIED = 3


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("--method", default="GET", metavar="NAME", help="GET where not given")
    parser.add_argument("--path", default="/", help="a path, or a whole URL")
    parser.add_argument(
        "--ip", default="127.0.0.1", metavar="ADDRESS", help="that the connection comes from"
    )
    parser.add_argument("--forwarded-for", default="", metavar="LIST", help="X-Forwarded-For")
    parser.add_argument("--user", default="", metavar="NAME", help="who is signed in")
    parser.add_argument(
        "--header", action="append", default=[], metavar='"NAME: VALUE"', help="any number of them"
    )


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    question = Question(
        method=options["method"].upper(),
        address=asking.address(options["ip"]),
        forwarded_for=options["forwarded_for"],
        user=asking.user(options["user"]),
        headers=dict(asking.header(text) for text in options["header"]),
        **_place(options["path"]),
    )
    found = explain(asking.with_limits(), question)
    if options["json"]:
        command.stdout.write(json.dumps(as_dict(found), indent=1))
    else:
        _print(command, found)
    if found.allowed is None:
        raise CommandError("It cannot be told.")
    if not found.allowed:
        raise CommandError("It would be denied.", returncode=DENIED)


def _place(text: str) -> dict[str, str]:
    parts = urlsplit(text)
    if not parts.path.startswith("/") and not parts.netloc:
        raise CommandError(f"{text!r}: a path begins with '/'.", returncode=2)
    return {"path": unquote(parts.path or "/"), "host": parts.netloc}


def _print(command: BaseCommand, found: Explanation) -> None:
    write = command.stdout.write
    write(f"{found.request}, from {found.address}, {found.who}")
    write(found.verdict)
    for step in found.steps:
        write(f"  {step}")
    for note in found.notes:
        write(f"  {note}")
    for title, rows in (("Match:", found.matched), ("Do not match:", found.missed)):
        if rows:
            write(f"\n{title}")
        for row in rows:
            write(f"  {row.name} ({row.mode}): {_row(row)}")
    if found.more:
        write(f"  and {found.more:,} more that do not match")


def _row(row: Row) -> str:
    said = [row.bar.text] if row.bar else []
    said += [f"by {row.counted}, bucket {row.bucket}"] if row.digest else []
    return "; ".join([*said, *row.said])
