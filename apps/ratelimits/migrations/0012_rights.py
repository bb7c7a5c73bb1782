"""Groups and the right to publish; reasons in a sentence; groups of a limit in its history.

Whoever could change limits could enforce them: on a site that is there already they can still.
"""

import django.db.models.deletion
import simple_history.models
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, migrations, models

from ..groups import EDITORS, PUBLISHERS, VIEWERS, make, permissions

VIEW = (
    "ratelimits.view_ratelimit",
    "ratelimits.view_override",
    "ratelimits.view_sweeprun",
    "monitoring.view_source",
    "monitoring.view_sample",
    "monitoring.view_alert",
    "monitoring.view_alertrule",
    "monitoring.view_silence",
    "monitoring.view_diagnosis",
    "benchmarks.view_metric",
    "benchmarks.view_machine",
    "benchmarks.view_benchmarkrun",
    "benchmarks.view_regression",
    "benchmarks.view_annotation",
)
EDIT = (
    *VIEW,
    "ratelimits.add_ratelimit",
    "ratelimits.change_ratelimit",
    "ratelimits.delete_ratelimit",
    "ratelimits.add_override",
    "ratelimits.change_override",
    "ratelimits.delete_override",
    # To choose the groups that a limit is about.
    "auth.view_group",
)
PUBLISH = (
    *EDIT,
    "ratelimits.publish_ratelimit",
    "ratelimits.reset_identity",
    "ratelimits.run_sweeprun",
    "monitoring.run_doctor",
)
RIGHTS = {VIEWERS: VIEW, EDITORS: EDIT, PUBLISHERS: PUBLISH}


def groups(apps, schema_editor):
    """Each where it is not there: staff may have edited it."""
    using = schema_editor.connection.alias if schema_editor else DEFAULT_DB_ALIAS
    there = apps.get_model("auth", "Group").objects.using(using).filter(name__in=RIGHTS)
    known = set(there.values_list("name", flat=True))
    make(apps, {name: RIGHTS[name] for name in RIGHTS if name not in known}, using=using)


def whoever_could_still_can(apps, schema_editor):
    using = schema_editor.connection.alias
    wanted = ["ratelimits.change_ratelimit", "ratelimits.publish_ratelimit"]
    change, publish = permissions(apps, wanted, using=using)
    for group in apps.get_model("auth", "Group").objects.using(using).filter(permissions=change):
        group.permissions.add(publish)
    user = apps.get_model(settings.AUTH_USER_MODEL)
    if any(field.name == "user_permissions" for field in user._meta.many_to_many):
        for row in user._default_manager.using(using).filter(user_permissions=change):
            row.user_permissions.add(publish)


def remember_groups(apps, schema_editor):
    """What groups a limit had earlier nobody wrote down: those of now are the best guess, and going
    back to an earlier entry keeps them."""
    using = schema_editor.connection.alias
    limit = apps.get_model("ratelimits", "RateLimit")
    entry = apps.get_model("ratelimits", "HistoricalRateLimit")
    kept = apps.get_model("ratelimits", "HistoricalRateLimit_groups")
    for row in limit.groups.through.objects.using(using).iterator():
        entries = entry.objects.using(using).filter(id=row.ratelimit_id)
        kept.objects.using(using).bulk_create(
            (
                kept(id=row.id, group_id=row.group_id, ratelimit_id=row.ratelimit_id, history_id=pk)
                for pk in entries.values_list("history_id", flat=True)
            ),
            batch_size=500,
        )


class Migration(migrations.Migration):

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("ratelimits", "0011_named_limits"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="ratelimit",
            options={
                "ordering": ["name"],
                "permissions": [
                    ("publish_ratelimit", "Can enforce limits, and change what is enforced"),
                    ("reset_identity", "Can reset what is counted of somebody"),
                ],
            },
        ),
        migrations.AlterField(
            model_name="historicaloverride",
            name="history_change_reason",
            field=models.CharField(max_length=200, null=True),
        ),
        migrations.AlterField(
            model_name="historicalratelimit",
            name="history_change_reason",
            field=models.CharField(max_length=200, null=True),
        ),
        migrations.CreateModel(
            name="HistoricalRateLimit_groups",
            fields=[
                ("id", models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name="ID")),
                ("m2m_history_id", models.AutoField(primary_key=True, serialize=False)),
                ("group", models.ForeignKey(blank=True, db_constraint=False, db_tablespace="", null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name="+", to="auth.group")),
                ("history", models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, to="ratelimits.historicalratelimit")),
                ("ratelimit", models.ForeignKey(blank=True, db_constraint=False, db_tablespace="", null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name="+", to="ratelimits.ratelimit")),
            ],
            options={"verbose_name": "HistoricalRateLimit_groups"},
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.RunPython(whoever_could_still_can, migrations.RunPython.noop),
        migrations.RunPython(groups, migrations.RunPython.noop),
        migrations.RunPython(remember_groups, migrations.RunPython.noop),
    ]
