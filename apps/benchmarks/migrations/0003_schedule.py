"""The schedule, once: from here on it is staff's to edit or delete in the admin."""

import json

from django.db import migrations
from django.utils import timezone

RECORD = "benchmarks.record_benchmark_history"
HOUR_S = 3_600
ROWS = [
    (
        "Benchmarks: the full set, weekly",
        RECORD,
        {"minute": "0", "hour": "3", "day_of_week": "0"},
        {"set_name": "full"},
        "Needs a worker of the queue 'benchmarks'.",
        24 * HOUR_S,
    ),
    (
        "Benchmarks: the analysis set, monthly",
        RECORD,
        {"minute": "0", "hour": "5", "day_of_month": "1"},
        {"set_name": "analysis"},
        "Needs a worker of the queue 'benchmarks'.",
        24 * HOUR_S,
    ),
    (
        "Benchmarks: forget old runs, daily",
        "benchmarks.forget_old_runs",
        {"minute": "30", "hour": "2"},
        {"keep_days": 730, "keep_runs": 10_000},
        "Older runs are deleted with what they measured.",
        None,
    ),
    (
        "Benchmarks: find lost runs, each minute",
        "benchmarks.watch_runs",
        {},
        {},
        "A run whose worker died keeps all others waiting until it is found.",
        60,
    ),
]


def schedule(apps, schema_editor):
    row = apps.get_model("django_celery_beat", "PeriodicTask")
    crontab = apps.get_model("django_celery_beat", "CrontabSchedule")
    for name, task, when, kwargs, description, expire_s in ROWS:
        if row.objects.filter(name=name).exists():
            continue
        cron = {field: "*" for field in ("day_of_month", "month_of_year", "day_of_week")}
        cron |= {"minute": "*", "hour": "*", **when}
        found = crontab.objects.filter(**cron).first() or crontab.objects.create(**cron)
        row.objects.create(
            name=name,
            task=task,
            crontab=found,
            kwargs=json.dumps(kwargs),
            description=description,
            expire_seconds=expire_s,
        )
    # A beat that runs looks at this only.
    changes = apps.get_model("django_celery_beat", "PeriodicTasks")
    changes.objects.update_or_create(ident=1, defaults={"last_update": timezone.now()})


class Migration(migrations.Migration):

    dependencies = [
        ("benchmarks", "0002_one_running"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [migrations.RunPython(schedule, migrations.RunPython.noop)]
