"""System checks: a limiter that is wired wrongly says so at start."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string

from . import conf, raised

MIDDLEWARE = f"{__package__}.middleware.RateLimitMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
CACHES = (
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
)


@register()
def check_configuration(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    return [
        Error(
            problem,
            hint="Each key and what it may hold: `manage.py ratelimit settings`.",
            id="ratelimits.E005",
        )
        for problem in conf.problems()
    ]


@register()
def check_key_validator(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if conf.problems() or not (path := conf.current().key_validator):
        return []
    try:
        import_string(path)
    except ImportError as error:
        return [
            Error(
                f"IOTA_KEY_VALIDATOR={path!r} cannot be imported: {error}",
                hint="Name a function (header, value) by its dotted path.",
                id="ratelimits.E003",
            )
        ]
    return []


@register()
def check_counted_signals(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    for path in () if conf.problems() else conf.current().counted_signals:
        try:
            raised.load(path)
        except ImportError as error:
            found.append(
                Error(
                    f"IOTA_COUNTED_SIGNALS names {path!r}: {error}",
                    hint="Name django.dispatch.Signal objects by their dotted paths.",
                    id="ratelimits.E004",
                )
            )
    return found


@register()
def check_middleware(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    installed = list(settings.MIDDLEWARE)
    if MIDDLEWARE not in installed:
        return [
            Warning(
                "RateLimitMiddleware is not in MIDDLEWARE: no limit is enforced.",
                hint=f"Add '{MIDDLEWARE}' after AuthenticationMiddleware.",
                id="ratelimits.W001",
            )
        ]
    found: list[CheckMessage] = []
    place = installed.index(MIDDLEWARE)
    if AUTHENTICATION in installed and installed.index(AUTHENTICATION) > place:
        found.append(
            Error(
                "RateLimitMiddleware stands before AuthenticationMiddleware: "
                "limits by user cannot be counted.",
                hint="Move it behind AuthenticationMiddleware.",
                id="ratelimits.E001",
            )
        )
    if any(cache in installed and installed.index(cache) < place for cache in CACHES):
        found.append(
            Error(
                "RateLimitMiddleware stands behind the cache middleware: cached responses "
                "would replay its fields, and answer without being counted.",
                hint="Move it before UpdateCacheMiddleware and FetchFromCacheMiddleware.",
                id="ratelimits.E002",
            )
        )
    return found
