"""The app; signals are connected here and nowhere else, and nothing touches the database."""

from django.apps import AppConfig


class RatelimitsConfig(AppConfig):
    name = __name__.rpartition(".")[0]
    label = "ratelimits"
    verbose_name = "Rate limits"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks, conf, deploy_checks, raised, receivers  # noqa: F401  (registered by being imported)

        # A check tells of a wrong configuration; the middleware refuses to be built with it.
        if not conf.problems():
            raised.connect()
