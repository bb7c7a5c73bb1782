"""Code of the last version runs on the schema of this one: processes are replaced one by one."""

from __future__ import annotations

import pytest
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.models import NOT_PROVIDED

SHIPPED = {"ratelimits": 13, "benchmarks": 4, "monitoring": 5}
"""The last of each app that no version before had to run beside."""
HARMLESS = (
    migrations.CreateModel,
    migrations.AddIndex,
    migrations.RemoveIndex,
    migrations.RenameIndex,
    migrations.RemoveConstraint,
    migrations.AlterModelOptions,
    migrations.AlterModelManagers,
    migrations.RunPython,
)


def harm(operation) -> str:
    """What processes of the last version would meet; nothing where they do not notice."""
    if isinstance(operation, HARMLESS):
        return ""
    if isinstance(operation, migrations.SeparateDatabaseAndState):
        return "; ".join(filter(None, map(harm, operation.database_operations)))
    if isinstance(operation, migrations.AddField):
        field = operation.field
        if field.many_to_many or field.null or field.db_default is not NOT_PROVIDED:
            return ""
        return f"{operation.name} is missing in rows that they write: null=True or a db_default"
    if isinstance(operation, migrations.AlterField):
        # What the database is told of choices, labels and help is nothing.
        return "" if operation.field.null or operation.field.choices else "rows may not fit"
    return "they still read or write what is gone, or may not"


def new_ones():
    loader = MigrationLoader(None)
    for (app, name), migration in sorted(loader.disk_migrations.items()):
        if app in SHIPPED and int(name[:4]) > SHIPPED[app]:
            yield from ((f"{app}.{name}", operation) for operation in migration.operations)


def test_every_new_migration_leaves_the_last_version_working():
    found = {name: problem for name, one in new_ones() if (problem := harm(one))}
    assert found == {}, "take it away a version later (docs/guides/deploying.md)"


@pytest.mark.parametrize(
    ("operation", "fine"),
    [
        (migrations.CreateModel("row", []), True),
        (migrations.AddField("row", "note", models.TextField(default="")), False),
        (migrations.AddField("row", "note", models.TextField(db_default="")), True),
        (migrations.AddField("row", "note", models.TextField(null=True)), True),
        (migrations.RemoveField("row", "note"), False),
        (migrations.RenameField("row", "note", "text"), False),
        (migrations.DeleteModel("row"), False),
        (migrations.RunSQL("DROP TABLE row"), False),
        (migrations.SeparateDatabaseAndState([migrations.DeleteModel("row")]), False),
        (migrations.SeparateDatabaseAndState(state_operations=[]), True),
    ],
)
def test_what_they_would_notice_is_told_from_what_they_would_not(operation, fine):
    assert (harm(operation) == "") is fine


def test_those_that_were_shipped_are_there():
    loader = MigrationLoader(None)
    for app, last in SHIPPED.items():
        numbers = [int(name[:4]) for of, name in loader.disk_migrations if of == app]
        assert last in numbers
