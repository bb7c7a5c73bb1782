"""What staff may say of metrics and machines, and the notes beside the trends."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from ..models import Annotation, Machine
from ..templatetags.figures import ago
from .base import PageAdmin


@admin.register(Machine)
class MachineAdmin(PageAdmin):
    list_display = ("name_or_print", "about")
    search_fields = ("name", "fingerprint")
    fields = ("name", "fingerprint", "about")
    readonly_fields = ("fingerprint", "about")

    @admin.display(description="machine", ordering="name")
    def name_or_print(self, machine: Machine) -> str:
        return str(machine)

    @admin.display(description="what it is")
    def about(self, machine: Machine) -> str:
        return ", ".join(f"{name}: {value}" for name, value in sorted(machine.fields.items()))


@admin.register(Annotation)
class AnnotationAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("text", "kind", "when", "commit", "made_by")
    list_filter = ("kind",)
    list_filter_submit = True
    search_fields = ("text", "commit")
    fields = ("at", "kind", "text", "commit")

    @admin.display(description="when", ordering="at")
    def when(self, annotation: Annotation) -> SafeString:
        return format_html("{}", ago(annotation.at))

    def save_model(self, request: HttpRequest, obj: Annotation, form: Any, change: bool) -> None:
        if not change:
            obj.made_by_id = request.user.pk
        super().save_model(request, obj, form, change)
