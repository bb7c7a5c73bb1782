"""The Celery application of worker and beat."""

import os

from celery import Celery

from . import task_logs as task_logs  # its signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iota.settings")

app = Celery("iota")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# Modules of tasks beside an app's `tasks`.
app.autodiscover_tasks(related_name="alert_tasks")
app.autodiscover_tasks(related_name="diagnosing")
