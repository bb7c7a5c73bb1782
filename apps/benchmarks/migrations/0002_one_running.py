import uuid

from django.db import migrations, models


def give_uids(apps, schema_editor):
    """A default would give all rows the same."""
    runs = apps.get_model("benchmarks", "BenchmarkRun").objects.filter(uid=None)
    for run in runs.only("pk").iterator():
        run.uid = uuid.uuid4()
        run.save(update_fields=["uid"])


class Migration(migrations.Migration):

    dependencies = [("benchmarks", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="benchmarkrun",
            name="uid",
            field=models.UUIDField(editable=False, null=True, unique=True),
        ),
        migrations.RunPython(give_uids, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="benchmarkrun",
            name="uid",
            field=models.UUIDField(default=uuid.uuid4, editable=False, null=True, unique=True),
        ),
        migrations.AddConstraint(
            model_name="benchmarkrun",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "running")),
                fields=("state",),
                name="benchmarks_one_running",
            ),
        ),
    ]
