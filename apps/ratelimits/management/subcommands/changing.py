"""What ``disable`` and ``enable`` have in common: the change, and what became of it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import conf, modes
from ...engine import get_engine
from ...models import RateLimit
from ...modes import Change
from ...policy.rules import IN_FORCE
from ...storage.errors import Unavailable

NOT_HEARD = (
    "Redis does not answer: servers keep the limits they have until it is back and the next "
    "reconciling task (every 10 s where Celery beat runs) has published them. To be free at once, "
    "restart the site with IOTA_DISABLED=1."
)


def add_common_arguments(parser: CommandParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what would change")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for the history")


def carry_out(
    command: BaseCommand, wanted: Mapping[str, str], options: Mapping[str, Any], *, done: str
) -> None:
    """Change the modes and say so. ``done``: what the limits are then, ``off`` or ``on``. Raises
    CommandError where nothing was changed, or Redis did not hear of it."""
    dry_run, as_json = options["dry_run"], options["json"]
    why = " ".join(options["reason"].split())
    if len(why) > modes.MOST_WHY:
        raise CommandError(
            f"--reason has {len(why):,} characters: write {modes.MOST_WHY} at most.", returncode=2
        )
    try:
        changes = modes.set_modes(wanted, dry_run=dry_run, why=why)
    except modes.UnknownLimits as error:
        raise CommandError(unknown(error.names, "nothing was changed")) from error
    except modes.Impossible as error:
        raise CommandError(f"{error} Nothing was changed.") from error
    heard = None if dry_run else published()
    if as_json:
        rows = [{"name": c.name, "before": c.before, "after": c.after} for c in changes]
        said = {"changed": rows, "dry_run": dry_run, "published": heard}
        command.stdout.write(json.dumps({**said, "restore": restoring(changes)}, indent=1))
    else:
        _say(command, changes, len(wanted), dry_run=dry_run, published=heard, done=done)
    if heard is False:
        raise CommandError(NOT_HEARD)


def _say(
    command: BaseCommand,
    changes: Sequence[Change],
    wanted: int,
    *,
    dry_run: bool,
    published: bool | None,
    done: str,
) -> None:
    for change in changes:
        command.stdout.write(f"  {change.name}: {change.before} -> {change.after}")
    already = wanted - len(changes)
    unchanged = f" ({already:,} already)" if already else ""
    if dry_run:
        command.stdout.write(f"{_limits(len(changes))} would be switched {done}{unchanged}.")
        return
    # Where nothing changed, an earlier change may still have to be heard of.
    force = "; in force in every process within 1 s" if published else " in the database"
    if not changes:
        force = "" if published else force
    command.stdout.write(f"{_limits(len(changes))} switched {done}{unchanged}{force}.")
    if conf.current().disabled:
        command.stdout.write("IOTA_DISABLED is set here: a site with it enforces nothing anyway.")
    if restore := restoring(changes):
        command.stdout.write(f"To undo this:\n  {restore}")


def restoring(changes: Sequence[Change]) -> str:
    """The command that undoes them; what was a draft is off then."""
    on = " ".join(f"{c.name}:{c.before}" for c in changes if c.before in IN_FORCE)
    off = " ".join(c.name for c in changes if c.before not in IN_FORCE)
    commands = [f"manage.py ratelimit enable {on}"] if on else []
    commands += [f"manage.py ratelimit disable {off}"] if off else []
    return " && ".join(commands)


def published() -> bool:
    """Whether Redis has what is in the database; of an earlier change too."""
    try:
        get_engine().reconcile()
    except Unavailable:
        return False
    return True


def unknown(names: Sequence[str], then: str) -> str:
    """``then``: what became of what was asked for."""
    known = list(RateLimit.objects.values_list("name", flat=True))
    close = [found for name in names for found in difflib.get_close_matches(name, known, 1)]
    hint = f" Did you mean {', '.join(close)}?" if close else ""
    return f"No limit is called {', '.join(names)}; {then}.{hint}"


def _limits(number: int) -> str:
    return "1 limit" if number == 1 else f"{number:,} limits"
