"""Usage by minute, hour and day, and the schedule of what writes it, once: from here on that row is
staff's to edit or delete in the admin.

Only where django-celery-beat is installed by then, as for 0008.
"""

from django.db import migrations, models
from django.utils import timezone

NAME = "Rate limits: roll up usage, every minute"
TASK = "ratelimits.roll_up_usage"
ABOUT = (
    "Adds what each limit allowed and denied since the last turn to minutes, hours and days in the "
    "database, and deletes what is older than it is kept (2, 90 and 400 days)."
)
EXPIRE_S = 50


def schedule(apps, schema_editor):
    try:
        row = apps.get_model("django_celery_beat", "PeriodicTask")
    except LookupError:  # Not installed, or its tables come after ours.
        return
    if row.objects.filter(name=NAME).exists():
        return
    crontab = apps.get_model("django_celery_beat", "CrontabSchedule")
    fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    cron = {field: "*" for field in fields}
    found = crontab.objects.filter(**cron).first() or crontab.objects.create(**cron)
    row.objects.create(
        name=NAME, task=TASK, crontab=found, description=ABOUT, expire_seconds=EXPIRE_S
    )
    # A beat that runs looks at this only.
    changes = apps.get_model("django_celery_beat", "PeriodicTasks")
    changes.objects.update_or_create(ident=1, defaults={"last_update": timezone.now()})


class Migration(migrations.Migration):

    dependencies = [
        ("ratelimits", "0008_sweep_schedule"),
    ]

    operations = [
        migrations.CreateModel(
            name='LimitRollUp',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('resolution_s', models.PositiveIntegerField(choices=[(60, 'Minute'), (3600, 'Hour'), (86400, 'Day')])),
                ('at', models.DateTimeField()),
                ('allowed', models.PositiveBigIntegerField(default=0)),
                ('denied', models.PositiveBigIntegerField(default=0)),
                ('would_deny', models.PositiveBigIntegerField(default=0)),
                ('degraded', models.PositiveBigIntegerField(default=0)),
                ('sum_us', models.PositiveBigIntegerField(default=0)),
                ('limit_id', models.PositiveBigIntegerField()),
            ],
            options={
                'abstract': False,
                'default_permissions': (),
                'indexes': [models.Index(fields=['resolution_s', 'at'], name='ratelimits_roll_up_at'), models.Index(condition=models.Q(('denied__gt', 0)), fields=['resolution_s', 'at'], name='ratelimits_roll_up_denied')],
                'constraints': [models.UniqueConstraint(fields=('limit_id', 'resolution_s', 'at'), name='ratelimits_one_roll_up')],
            },
        ),
        migrations.CreateModel(
            name='RolledUp',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('turn', models.PositiveBigIntegerField(default=0)),
                ('began_at', models.DateTimeField(help_text='Nothing is known of the time before.')),
                ('read_at', models.DateTimeField()),
                ('counted', models.JSONField(default=dict)),
            ],
            options={
                'default_permissions': (),
                'constraints': [models.CheckConstraint(condition=models.Q(('id', 1)), name='ratelimits_rolled_up')],
            },
        ),
        migrations.CreateModel(
            name='TotalRollUp',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('resolution_s', models.PositiveIntegerField(choices=[(60, 'Minute'), (3600, 'Hour'), (86400, 'Day')])),
                ('at', models.DateTimeField()),
                ('allowed', models.PositiveBigIntegerField(default=0)),
                ('denied', models.PositiveBigIntegerField(default=0)),
                ('would_deny', models.PositiveBigIntegerField(default=0)),
                ('degraded', models.PositiveBigIntegerField(default=0)),
                ('sum_us', models.PositiveBigIntegerField(default=0)),
                ('requests', models.PositiveBigIntegerField(default=0)),
                ('errors', models.PositiveBigIntegerField(default=0)),
                ('checks', models.PositiveBigIntegerField(default=0)),
            ],
            options={
                'abstract': False,
                'default_permissions': (),
                'constraints': [models.UniqueConstraint(fields=('resolution_s', 'at'), name='ratelimits_one_total_roll_up')],
            },
        ),
        migrations.RunPython(schedule, migrations.RunPython.noop),
    ]
