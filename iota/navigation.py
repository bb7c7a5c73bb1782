"""The admin's sidebar: what people come for, first. What they get to from there is left out of it,
and stays in the index of its app."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

from apps.monitoring import alerting

PAGES = {
    "ratelimits": (
        ("Explain", "admin:ratelimits_explain", "ratelimits.view_ratelimit"),
        ("Identities", "admin:ratelimits_identity", "ratelimits.view_ratelimit"),
        ("Recent edits", "admin:ratelimits_edits", "ratelimits.view_ratelimit"),
    ),
    "benchmarks": (("Trends", "admin:benchmarks_trends", "benchmarks.view_metric"),),
    "monitoring": (("Health", "admin:monitoring_health", "monitoring.view_source"),),
}
"""By app: what is no list of a model; its title, its address, whose it is."""
BEFORE_PAGES = {"ratelimits": ("RateLimit",)}
"""Lists that stand before the pages of their app."""
FIRST = ("ratelimits", "monitoring", "benchmarks", "django_celery_beat", "auth")
MODELS = {
    "ratelimits": ("RateLimit", "Override", "SweepRun"),
    "monitoring": ("Alert", "Diagnosis", "AlertRule", "Silence", "Channel"),
    "benchmarks": ("Regression", "BenchmarkRun", "LoadTest", "Metric", "Annotation"),
    "django_celery_beat": ("PeriodicTask",),
}
"""In this order; of other apps all."""


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Only what this person may see."""
    groups = []
    for app in sorted(admin.site.get_app_list(request), key=_place):
        pages = [
            {"title": title, "link": reverse(name)}
            for title, name, permission in PAGES.get(app["app_label"], ())
            if request.user.has_perm(permission)
        ]
        models = [model for model in _models(app) if model["admin_url"]]
        before = BEFORE_PAGES.get(app["app_label"], ())
        first = [_item(model) for model in models if model["object_name"] in before]
        others = [_item(model) for model in models if model["object_name"] not in before]
        if pages or models:
            groups.append({"title": app["name"], "items": [*first, *pages, *others]})
    items = [item for group in groups for item in group["items"]]
    here = [item["link"] for item in items if request.path.startswith(item["link"])]
    for item in items:
        # A page below a list is not that list.
        item["active"] = item["link"] == max(here, key=len, default=None)
    return groups


def _place(app: dict[str, Any]) -> int:
    label = app["app_label"]
    return FIRST.index(label) if label in FIRST else len(FIRST)


def _models(app: dict[str, Any]) -> list[dict[str, Any]]:
    names = MODELS.get(app["app_label"])
    if names is None:
        return list(app["models"])
    by_name = {model["object_name"]: model for model in app["models"]}
    return [by_name[name] for name in names if name in by_name]


def _item(model: dict[str, Any]) -> dict[str, Any]:
    return {"title": model["name"], "link": model["admin_url"], **_badge(model)}


def _badge(model: dict[str, Any]) -> dict[str, Any]:
    """How many alerts fire, beside their list, on every page."""
    if model["object_name"] != "Alert" or not (number := alerting.firing_count()):
        return {}
    return {"badge": f"{number:,}", "badge_variant": "danger"}
