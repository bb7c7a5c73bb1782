"""The app."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = __name__.rpartition(".")[0]
    label = "monitoring"
    verbose_name = "Monitoring"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import tracing

        tracing.start()
