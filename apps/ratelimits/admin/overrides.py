"""The exceptions from limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest

from ..models import Override
from .base import PublishedAdmin
from .edit_form import OverrideEditForm
from .exchange import ExchangesOverrides
from .lockout import LockOut


class OverrideForm(OverrideEditForm):
    class Meta:
        model = Override
        fields = "__all__"

    def reasons(self) -> Sequence[str]:
        return LockOut(self.request).reasons_of_override(saved=self.instance)


@admin.register(Override)
class OverrideAdmin(ExchangesOverrides, PublishedAdmin):
    form = OverrideForm
    list_display = ("__str__", "limit", "quota", "until", "reason")
    list_filter = ("action", "limit")
    search_fields = ("network", "key_of", "reason", "user__username", "group__name")
    autocomplete_fields = ("limit",)
    raw_id_fields = ("user",)
    fieldsets = (
        ("Whom", {"fields": ("lock_out", "user", "group", "network", ("header", "key_of"))}),
        ("What instead", {"fields": ("limit", "action", "quota")}),
        ("For how long, and why", {"fields": ("until", "reason")}),
    )

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        form.request = request
        return form

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Both pages that ask whether to delete also say what the exceptions are for."""
        if not request.POST.get("post"):
            for text in LockOut(request).reasons_of_override(removed=list(objs)):
                self.message_user(request, f"Without it: {text}", messages.WARNING)
        return super().get_deleted_objects(objs, request)
