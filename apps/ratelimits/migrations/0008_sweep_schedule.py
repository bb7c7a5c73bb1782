"""The schedule, once: from here on it is staff's to edit or delete in the admin.

Only where django-celery-beat is installed by then: a site of another kind, or one that gets it later,
has ``schedule.BEAT_SCHEDULE``. Nothing here depends on its migrations: where it came after ours, Django
would find our history to be inconsistent, and migrate nothing.
"""

import json

from django.db import migrations
from django.utils import timezone

NAME = "Rate limits: clean up, every 5 minutes"
TASK = "ratelimits.sweep"
KWARGS = {"budget_s": 10, "rate_per_s": 10_000, "every_s": 3_600}
ABOUT = (
    "Removes from Redis what deleted limits have left. Begins a pass every_s seconds after the last "
    "one began, and spends budget_s seconds on it at a time."
)
EXPIRE_S = 240


def schedule(apps, schema_editor):
    try:
        row = apps.get_model("django_celery_beat", "PeriodicTask")
    except LookupError:  # Not installed, or its tables come after ours.
        return
    if row.objects.filter(name=NAME).exists():
        return
    crontab = apps.get_model("django_celery_beat", "CrontabSchedule")
    cron = {field: "*" for field in ("hour", "day_of_month", "month_of_year", "day_of_week")}
    cron["minute"] = "*/5"
    found = crontab.objects.filter(**cron).first() or crontab.objects.create(**cron)
    row.objects.create(
        name=NAME,
        task=TASK,
        crontab=found,
        kwargs=json.dumps(KWARGS),
        description=ABOUT,
        expire_seconds=EXPIRE_S,
    )
    # A beat that runs looks at this only.
    changes = apps.get_model("django_celery_beat", "PeriodicTasks")
    changes.objects.update_or_create(ident=1, defaults={"last_update": timezone.now()})


class Migration(migrations.Migration):

    dependencies = [
        ("ratelimits", "0007_sweeps"),
    ]

    operations = [migrations.RunPython(schedule, migrations.RunPython.noop)]
