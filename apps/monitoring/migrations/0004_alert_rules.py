"""The guide's rules, once: from here on they are staff's to edit or delete in the admin."""

import json

from django.db import migrations
from django.utils import timezone

RULES = [
    {
        "name": "Redis: CPU",
        "metric": "cpu_percent",
        "threshold": 80,
        "clear": 70,
        "for_s": 300,
        "severity": "critical",
        "words": "Its one main thread has little time left: all that it answers becomes slow.",
        "guide": "#redis-cpu",
    },
    {
        "name": "Redis: memory",
        "metric": "memory_percent",
        "threshold": 90,
        "clear": 85,
        "for_s": 60,
        "severity": "critical",
        "words": "When it is full, counters are evicted or writes refused, as its policy says.",
        "guide": "#redis-memory",
    },
    {
        "name": "Redis: replication lag",
        "metric": "replication_lag_s",
        "threshold": 10,
        "clear": 5,
        "for_s": 20,
        "severity": "critical",
        "words": "A replica is behind, not online, or gone: a failover now would lose counts.",
        "guide": "#redis-replication-lag",
    },
    {
        "name": "Redis: connections",
        "metric": "clients_percent",
        "threshold": 80,
        "clear": 70,
        "for_s": 60,
        "severity": "warning",
        "words": "At maxclients new connections are refused.",
        "guide": "#redis-connections",
    },
    {
        "name": "Limiter: check latency",
        "metric": "check_p99_us",
        "threshold": 10_000,
        "clear": 8_000,
        "for_s": 60,
        "at_least": 100,
        "severity": "warning",
        "words": "One check of a hundred keeps its request waiting so long.",
        "guide": "#check-latency",
    },
    {
        "name": "Limiter: configuration load",
        "metric": "config_load_us",
        "threshold": 100_000,
        "clear": 80_000,
        "for_s": 30,
        "severity": "warning",
        "words": "A process took so long to read its environment when it started.",
        "guide": "#configuration-load",
    },
    {
        "name": "Site: error rate",
        "metric": "error_percent",
        "threshold": 1,
        "clear": 0.5,
        "for_s": 60,
        "at_least": 100,
        "severity": "critical",
        "words": "So many requests end in a 5xx. A 429 is no error.",
        "guide": "#error-rate",
    },
    {
        "name": "Queue length",
        "metric": "queue_length",
        "threshold": 1_000,
        "clear": 500,
        "for_s": 60,
        "severity": "warning",
        "words": "More comes in than is worked off: requests of the site, or tasks of Celery.",
        "guide": "#queue-length",
    },
    # None of the guide's, and what they rest on: of what does not answer nothing else is known.
    {
        "name": "No answer",
        "metric": "silent_s",
        "threshold": 20,
        "for_s": 20,
        "severity": "critical",
        "words": "It does not answer: nothing else is known of it.",
        "guide": "#no-answer",
    },
]
CRON = {"minute": "45", "hour": "2", "day_of_week": "*", "day_of_month": "*", "month_of_year": "*"}
FORGET = "Alerts: forget old ones, daily"


def rows(apps, schema_editor):
    rule = apps.get_model("monitoring", "AlertRule")
    for values in RULES:
        if not rule.objects.filter(name=values["name"]).exists():
            rule.objects.create(**values)
    # Without a URL: mail to IOTA_ADMINS.
    channel = apps.get_model("monitoring", "Channel")
    channel.objects.get_or_create(name="Mail to IOTA_ADMINS", defaults={"receiver": "IOTA_ADMINS"})
    task = apps.get_model("django_celery_beat", "PeriodicTask")
    if task.objects.filter(name=FORGET).exists():
        return
    crontab = apps.get_model("django_celery_beat", "CrontabSchedule")
    found = crontab.objects.filter(**CRON).first() or crontab.objects.create(**CRON)
    task.objects.create(
        name=FORGET,
        task="monitoring.forget_alerts",
        crontab=found,
        queue="monitoring",
        kwargs=json.dumps({"keep_days": 400}),
        description="Alerts that ended longer ago are deleted, with who was told of them.",
    )
    changes = apps.get_model("django_celery_beat", "PeriodicTasks")
    changes.objects.update_or_create(ident=1, defaults={"last_update": timezone.now()})


class Migration(migrations.Migration):

    dependencies = [
        ("monitoring", "0003_alerts"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [migrations.RunPython(rows, migrations.RunPython.noop)]
