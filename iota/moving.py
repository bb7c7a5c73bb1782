"""Everything from another database into this site's: ``python -m iota.moving sqlite:///...``.

Row by row with its key and its dates, past all signals: ``loaddata`` writes history of its own.
All or nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import django
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from django.core.management.color import no_style
from django.db import DatabaseError, connection, connections, transaction
from django.db.migrations.executor import MigrationExecutor
from environ import Env

from apps.ratelimits.options import Refused

from .database import SQLITE, database
from .variables import database_url

OLD = "old"
ROWS_AT_ONCE = 1_000
PLACE = ("HOST", "PORT", "NAME")
OF_PEOPLE = (
    "auth.User",
    "benchmarks.BenchmarkRun",
    "benchmarks.LoadTest",
    "ratelimits.Override",
    "ratelimits.RateLimit",
)
"""What somebody has made. ``migrate`` makes rows too: groups, alert rules, a channel, tasks."""


class CannotMove(Exception):
    """Why, in a line; nothing was changed."""


def move(url: str) -> dict[str, int]:
    """Rows by table. Raises CannotMove."""
    _connect(url)
    places = [
        [connections[alias].settings_dict[part] for part in PLACE] for alias in (OLD, "default")
    ]
    if places[0] == places[1]:
        raise CannotMove("both are the same database: DATABASE_URL names the new one")
    for alias, what in ((OLD, "the old"), ("default", "the new")):
        _check_migrated(alias, what)
    models = _models()
    _check_new(models)
    moved: dict[str, int] = {}
    table = ""
    try:
        with transaction.atomic():
            call_command("flush", interactive=False, verbosity=0, inhibit_post_migrate=True)
            for model in models:
                table = model._meta.db_table
                moved[table] = _copy(model)
            with connection.cursor() as cursor:
                for line in connection.ops.sequence_reset_sql(no_style(), models):
                    cursor.execute(line)
    except CommandError as error:  # Of ``flush``, which says what happened only by its cause.
        raise CannotMove(f"the new database cannot be emptied: {error.__cause__}") from error
    except (DatabaseError, ValueError) as error:  # a NUL is a ValueError
        raise CannotMove(f"{table}: {error}".strip()) from error
    return moved


def _connect(url: str) -> None:

    try:
        entry = database(Env.db_url_config(database_url(url)), settings.BASE_DIR)
    except Refused as error:
        raise CannotMove(f"no database's URL: {error}".removesuffix(": ")) from error
    name = Path(entry["NAME"])
    if entry["ENGINE"] == SQLITE and not name.exists():
        raise CannotMove(f"there is no file {name}")
    connections.settings[OLD] = connections.configure_settings({"default": entry})["default"]


def _check_migrated(alias: str, what: str) -> None:
    try:
        executor = MigrationExecutor(connections[alias])
        left = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        raise CannotMove(f"{what} database does not answer: {error}".strip()) from error
    if left:
        raise CannotMove(f"{what} database is not migrated: run `manage.py migrate` with it")


def _check_new(models: list[Any]) -> None:
    for model in models:
        if model._meta.label in OF_PEOPLE and model.objects.exists():
            raise CannotMove(
                f"the new database has rows in {model._meta.db_table} already, and all of it would "
                "be replaced: make it anew, and run `manage.py migrate` with it"
            )


def _models() -> list[Any]:
    found = apps.get_models(include_auto_created=True)
    return [model for model in found if model._meta.managed and not model._meta.proxy]


def _copy(model: Any) -> int:
    for field in model._meta.concrete_fields:
        # Else each row would say that it was made and changed now.
        if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
            field.auto_now = field.auto_now_add = False
    rows = model._base_manager.using(OLD).order_by("pk").iterator(ROWS_AT_ONCE)
    moved = 0
    while some := list(islice(rows, ROWS_AT_ONCE)):
        for row in some:
            row._state.db = None
        model._base_manager.using("default").bulk_create(some)
        moved += len(some)
    return moved


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m iota.moving",
        description="Everything from another database into the one that DATABASE_URL names.",
    )
    parser.add_argument("old", metavar="URL", help="such as sqlite:///var/iota.sqlite3")
    url = parser.parse_args(arguments).old
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iota.settings")
    django.setup()
    try:
        moved = move(url)
    except CannotMove as error:
        print(f"Nothing was moved: {error}", file=sys.stderr)
        return 1
    for table, number in moved.items():
        print(f"{number:>9,} {table}")
    print(f"{sum(moved.values()):>9,} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
