"""Where other services ask: ``urlpatterns = [*addresses("api/check"), …]``."""

from __future__ import annotations

from django.urls import URLPattern, path

from . import used_in_code
from .check_endpoint import check


def addresses(at: str) -> list[URLPattern]:
    """``at`` itself and what lies below it; without a slash at its ends."""
    return [
        path(at, check, name="ratelimits-check"),
        path(f"{at}/nginx", check, {"proxy": "nginx"}),
        path(f"{at}/traefik", check, {"proxy": "traefik"}),
        path(f"{at}/envoy<path:rest>", check, {"proxy": "envoy"}),
    ]


def path_of_site() -> str | None:
    """Where this site has it, if it has; loads its addresses."""
    found = [route for route, view in used_in_code.views() if view is check]
    return f"/{min(found, key=len)}" if found else None
