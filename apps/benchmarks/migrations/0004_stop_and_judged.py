from django.db import migrations, models


def were_judged(apps, schema_editor):
    """What is there was judged as it ended: nobody looks for regressions of last year."""
    runs = apps.get_model("benchmarks", "BenchmarkRun").objects
    runs.filter(state="done").update(judged_at=models.F("ended_at"))


class Migration(migrations.Migration):

    dependencies = [("benchmarks", "0003_schedule")]

    operations = [
        migrations.AddField(
            model_name="benchmarkrun",
            name="stop_asked",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="benchmarkrun",
            name="judged_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.RunPython(were_judged, migrations.RunPython.noop),
        migrations.AddIndex(
            model_name="benchmarkrun",
            index=models.Index(
                condition=models.Q(("judged_at", None), ("state", "done")),
                fields=["ended_at"],
                name="benchmarks_run_unjudged",
            ),
        ),
    ]
