"""What the collectors keep beside samples, and their schedule, once: from here on it is staff's to
edit or delete in the admin."""

from django.db import migrations, models
from django.utils import timezone

ROWS = [
    (
        "Watch: samples, every 10 seconds",
        "monitoring.sample",
        10,
        "Needs a worker of the queue 'monitoring'. Alert rules are looked at right after.",
        10,
    ),
    (
        "Watch: roll up and forget samples, each minute",
        "monitoring.roll_up",
        60,
        "10 s samples are kept 2 days, of a minute 14 days, of ten minutes 400 days.",
        60,
    ),
]


def schedule(apps, schema_editor):
    row = apps.get_model("django_celery_beat", "PeriodicTask")
    interval = apps.get_model("django_celery_beat", "IntervalSchedule")
    for name, task, every_s, description, expire_s in ROWS:
        if row.objects.filter(name=name).exists():
            continue
        every = {"every": every_s, "period": "seconds"}
        found = interval.objects.filter(**every).first() or interval.objects.create(**every)
        row.objects.create(
            name=name,
            task=task,
            interval=found,
            description=description,
            # What nobody took in time is not worth taking: nothing piles up without a worker.
            expire_seconds=expire_s,
        )
    # A beat that runs looks at this only.
    changes = apps.get_model("django_celery_beat", "PeriodicTasks")
    changes.objects.update_or_create(ident=1, defaults={"last_update": timezone.now()})


class Migration(migrations.Migration):

    dependencies = [
        ("monitoring", "0001_samples"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [
        migrations.AddField("source", "counters", models.JSONField(blank=True, default=dict)),
        migrations.AddField("source", "gone_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("source", "notes", models.JSONField(blank=True, default=dict)),
        migrations.AddField("source", "replicas", models.JSONField(blank=True, default=dict)),
        migrations.CreateModel(
            name="Turn",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("job", models.CharField(max_length=40, unique=True)),
                ("held_until", models.DateTimeField(blank=True, null=True)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.RunPython(schedule, migrations.RunPython.noop),
    ]
