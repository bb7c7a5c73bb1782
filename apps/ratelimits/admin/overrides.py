"""The exceptions from limits."""

from __future__ import annotations

from django.contrib import admin

from ..models import Override
from .base import PublishedAdmin


@admin.register(Override)
class OverrideAdmin(PublishedAdmin):
    list_display = ("__str__", "limit", "quota", "until", "reason")
    list_filter = ("action", "limit")
    search_fields = ("network", "key_of", "reason", "user__username", "group__name")
    autocomplete_fields = ("limit",)
    raw_id_fields = ("user",)
    fieldsets = (
        ("Whom", {"fields": ("user", "group", "network", ("header", "key_of"))}),
        ("What instead", {"fields": ("limit", "action", "quota")}),
        ("For how long, and why", {"fields": ("until", "reason")}),
    )
