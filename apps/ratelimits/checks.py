"""System checks: a limiter that is wired wrongly says so at start."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

MIDDLEWARE = f"{__package__}.middleware.RateLimitMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
CACHES = (
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
)


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
