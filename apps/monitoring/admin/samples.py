"""Sources and samples, to be read: what the watch writes, nobody types."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from ..models import Sample


class ReadOnly(ModelAdmin):  # type: ignore[misc]
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Sample)
class SampleAdmin(ReadOnly):
    list_display = ("at", "source", "resolution_s")
    list_filter = ("resolution_s", "source")
    list_filter_submit = True
    list_select_related = ("source",)
    fields = ("source", "resolution_s", "at", "figures")
    readonly_fields = ("figures",)
    # By the key, which the database has sorted already: there may be a million of them.
    ordering = ("-pk",)
    show_full_result_count = False

    @admin.display(description="figures")
    def figures(self, sample: Sample) -> SafeString:
        return format_html('<pre class="whitespace-pre-wrap">{}</pre>', _shown(sample.values))


def _shown(values: object) -> str:
    return json.dumps(values, indent=1, sort_keys=True)
