"""A turn of what Celery beat has done elsewhere, for the cron of a site without Celery."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from ... import clean_up, usage_rolling
from ...engine import get_engine
from ...models import SweepRun
from ...storage.errors import Unavailable

HELP = "one turn of the periodic work, for cron where no Celery beat runs"
EXAMPLES = """examples:
  * * * * *  manage.py ratelimit upkeep

Publishes what was not published, rolls up usage, and once an hour sweeps what
deleted limits have left in Redis.

exit codes: 0 done; 1 Redis does not answer
"""
EVERY_S = 3_600.0
BUDGET_S = 10.0


def add_arguments(parser: CommandParser) -> None:
    pass


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    engine = get_engine()
    try:
        published = engine.reconcile()
        rows = usage_rolling.roll_up(engine.usage, timezone.now())
    except Unavailable as error:
        raise CommandError(f"Redis does not answer ({error}): the next turn goes on.") from error
    usage_rolling.forget(timezone.now())
    swept = _swept()
    if options["json"]:
        said = {"published": published, "rolled_up": rows, "swept": swept}
        command.stdout.write(json.dumps(said, indent=1))
        return
    command.stdout.write("published" if published else "nothing to publish")
    command.stdout.write(f"{rows:,} rows of usage written")
    command.stdout.write("not swept: not due" if swept is None else f"{swept:,} keys removed")


def _swept() -> int | None:
    """How many keys went; None where no sweep was due, or another was under way."""
    if not clean_up.is_due(EVERY_S):
        return None
    try:
        run = clean_up.sweep(SweepRun.Trigger.SCHEDULE, budget_s=BUDGET_S)
    except clean_up.Busy:
        return None
    if run.state == SweepRun.State.FAILED:
        raise CommandError(f"The sweep failed: {run.error}")
    return run.keys_removed
