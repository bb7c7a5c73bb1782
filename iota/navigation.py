"""The admin's sidebar: the models of each app, as ever, and the pages beside them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

from apps.monitoring import alerting

PAGES = {
    "benchmarks": (("Trends", "admin:benchmarks_trends", "benchmarks.view_metric"),),
    "monitoring": (("Health", "admin:monitoring_health", "monitoring.view_source"),),
}
"""By app: what is no list of a model; its title, its address, whose it is."""


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Only what this person may see."""
    groups = []
    for app in admin.site.get_app_list(request):
        pages = [
            {"title": title, "link": reverse(name)}
            for title, name, permission in PAGES.get(app["app_label"], ())
            if request.user.has_perm(permission)
        ]
        models = [
            {"title": model["name"], "link": model["admin_url"], **_badge(model)}
            for model in app["models"]
            if model["admin_url"]
        ]
        groups.append({"title": app["name"], "items": [*pages, *models]})
    items = [item for group in groups for item in group["items"]]
    here = [item["link"] for item in items if request.path.startswith(item["link"])]
    for item in items:
        # A page below a list is not that list.
        item["active"] = item["link"] == max(here, key=len, default=None)
    return groups


def _badge(model: dict[str, Any]) -> dict[str, Any]:
    """How many alerts fire, beside their list, on every page."""
    if model["object_name"] != "Alert" or not (number := alerting.firing_count()):
        return {}
    return {"badge": f"{number:,}", "badge_variant": "danger"}
