"""The app."""

from django.apps import AppConfig


class BenchmarksConfig(AppConfig):
    name = __name__.rpartition(".")[0]
    label = "benchmarks"
    verbose_name = "Benchmarks"
    default_auto_field = "django.db.models.BigAutoField"
