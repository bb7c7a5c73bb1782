"""Limits, or overrides, from a file: what it changes, field by field, and then the change."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import conf, exchange
from .changing import NOT_HEARD, published
from .exporting import MISSING

if TYPE_CHECKING:
    from ...exchange.changes import Changes
    from ...exchange.importing import Imported

HELP = "limits from a file: all of it or none, in every process within a second"
EXAMPLES = """examples:
  manage.py ratelimit import limits.yaml --dry-run
  manage.py ratelimit import limits.yaml --prune
  git show HEAD~1:limits.yaml | manage.py ratelimit import -

What the file does not have stays as it is. With --prune, limits that it does not have are
switched off; none is ever deleted.

exit codes: 0 done, or nothing to do; 1 the file cannot be imported, or Redis did not hear of it;
2 with --dry-run, there are changes (and wrong options, with nothing on stdout)
"""
CHANGES = 2
MOST_REFUSED = 100


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument("file", metavar="FILE", help="JSON, YAML or CSV; - is stdin")
    parser.add_argument("--dry-run", action="store_true", help="say what would change")
    parser.add_argument("--prune", action="store_true", help="switch off limits not in the file")


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    if not exchange.is_available():
        raise CommandError(MISSING)
    dry_run = options["dry_run"]
    changes = _import(options["file"], dry_run=dry_run, prune=options["prune"]).told
    heard = None if dry_run or changes.refused else published()
    if options["json"]:
        said = {**changes.as_json(), "dry_run": dry_run, "published": heard}
        refused = [
            {"row": one.row, "name": one.name, "field": one.field, "text": one.text}
            for one in changes.refused
        ]
        command.stdout.write(json.dumps({**said, "refused": refused}, indent=1))
    else:
        _say(command, changes, dry_run=dry_run, heard=heard)
    if changes.refused:
        raise CommandError(f"{options['file']} cannot be imported: nothing was changed.")
    if heard is False:
        raise CommandError(NOT_HEARD)
    if dry_run and changes:
        sys.exit(CHANGES)


def _import(path: str, *, dry_run: bool, prune: bool) -> Imported:
    """Raises CommandError where it cannot be read."""
    from ...exchange.formats import MAX_FILE_BYTES, Unreadable, format_of
    from ...exchange.resources import resource_of

    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        dataset = format_of(path, data)().create_dataset(data)
        resource = resource_of(dataset)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    except Unreadable as error:
        raise CommandError(f"{path}: {error}") from error
    name = "stdin" if path == "-" else Path(path).name
    return resource.import_data(dataset, dry_run, prune=prune, file_name=name)


def _say(command: BaseCommand, changes: Changes, *, dry_run: bool, heard: bool | None) -> None:
    from ...exchange.changes import Kind, lines

    for refused in changes.refused[:MOST_REFUSED]:
        command.stderr.write(str(refused))
    if more := len(changes.refused[MOST_REFUSED:]):
        command.stderr.write(f"And {more:,} more.")
    if changes.refused:
        return
    styles = {
        Kind.NEW: command.style.SUCCESS,
        Kind.CHANGED: command.style.WARNING,
        Kind.OFF: command.style.ERROR,
    }
    for kind, is_head, text in lines(changes.changes):
        command.stdout.write(text, styles[kind] if is_head else None)
    if not changes:
        command.stdout.write(f"Nothing to do: {changes.summary}.")
    elif dry_run:
        command.stdout.write(f"Would be done: {changes.summary}.")
    else:
        force = "; in force in every process within 1 s" if heard else " in the database"
        command.stdout.write(f"Done: {changes.summary}{force}.")
        if conf.current().disabled:
            command.stdout.write("IOTA_DISABLED is set here: a site with it enforces nothing.")
