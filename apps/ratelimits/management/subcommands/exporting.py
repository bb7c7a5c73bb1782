"""Limits, or overrides, as a file for version control or a spreadsheet."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import exchange
from ...models import Override, RateLimit
from .changing import unknown

HELP = "limits as a file: the same limits give the same bytes"
EXAMPLES = """examples:
  manage.py ratelimit export --output limits.yaml
  manage.py ratelimit export --format csv login api-per-address > some.csv
  manage.py ratelimit export --overrides --output overrides.yaml

Overrides name people: they are a file of their own. --format is yaml, unless the name of --output
says another. --json is --format json.

exit codes: 0 done; 1 no such limit, or the file cannot be written
"""
MISSING = (
    "Limits as files need django-import-export and PyYAML, which are not installed: "
    "pip install django-import-export PyYAML"
)


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a limit; none: all")
    parser.add_argument("--format", choices=("json", "yaml", "csv"))
    parser.add_argument("--output", metavar="FILE", help="instead of stdout; it is replaced")
    parser.add_argument("--overrides", action="store_true", help="of these limits, instead of them")


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    if not exchange.is_available():
        raise CommandError(MISSING)
    from ...exchange.formats import BY_NAME, Unreadable, Yaml, format_of
    from ...exchange.resources import RESOURCES

    names, path = set(options["names"]), options["output"]
    known = RateLimit.objects.filter(name__in=names).values_list("name", flat=True)
    if lost := names.difference(known):
        raise CommandError(unknown(sorted(lost), "nothing was written"))
    what = "overrides" if options["overrides"] else "limits"
    rows: Any = Override.objects.all() if options["overrides"] else RateLimit.objects.all()
    if names:
        by_name = {"limit__name__in" if options["overrides"] else "name__in": names}
        rows = rows.filter(**by_name)
    asked = "json" if options["json"] else options["format"]
    chosen = BY_NAME[asked] if asked else (format_of(path) if path else Yaml)
    dataset = RESOURCES[what]().export(rows)
    try:
        text = chosen().export_data(dataset)
    except Unreadable as error:
        raise CommandError(str(error)) from error
    if path is None:
        command.stdout.write(text, ending="")
        return
    try:
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    command.stdout.write(f"{len(dataset):,} {what} in {path}")
