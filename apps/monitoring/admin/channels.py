"""Channels: who is told. An address is a secret: it is typed in, and never shown again."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.views.decorators.http import require_POST
from unfold.widgets import UnfoldAdminPasswordWidget

from apps.ratelimits.buttons import attempt, back

from .. import channels, handling, sealing
from ..models import Channel, Notification
from .alert_pages import AlertPageAdmin, may

LIST = "admin:monitoring_channel_changelist"


class ChannelForm(forms.ModelForm):  # type: ignore[type-arg]
    url = forms.CharField(
        label="Address",
        required=False,
        max_length=2_000,
        strip=True,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}, render_value=False),
    )

    class Meta:
        model = Channel
        fields = ("name", "severity", "enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        schemes = ", ".join(f"{name}://" for name in channels.SCHEMES)
        kept = "Empty: as it is. " if self.instance.pk else ""
        self.fields["url"].help_text = (
            f"{kept}As apprise writes it, beginning with one of {schemes}, such as "
            "jsons://hooks.example.com/alerts. It is kept sealed and never shown again."
        )

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"]
        if not url:
            if self.instance.pk is None:
                raise forms.ValidationError("Where is it to go?")
            return ""
        try:
            channels.parse(url)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error
        return url

    def save(self, commit: bool = True) -> Channel:
        url = self.cleaned_data["url"]
        if url:
            self.instance.sealed = sealing.seal(url)
            self.instance.receiver = channels.receiver(url)
        made: Channel = super().save(commit)
        return made


@admin.register(Channel)
class ChannelAdmin(AlertPageAdmin):
    form = ChannelForm
    list_display = ("name", "where", "severity", "enabled", "last")
    fields = ("name", "url", "where", "severity", "enabled")
    readonly_fields = ("where",)
    change_form_outer_before_template = "monitoring/test_channel.html"

    def get_urls(self) -> list[Any]:
        test = self.admin_site.admin_view(require_POST(self.test_view))
        return [path("<int:pk>/test/", test, name="monitoring_channel_test"), *super().get_urls()]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Who may only look has no field to type into, and the form has no such field of the model.
        if obj is not None and not self.has_change_permission(request, obj):
            return ("name", "where", "severity", "enabled")
        return self.fields if obj else ("name", "url", "severity", "enabled")

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        if obj is not None and not self.has_change_permission(request, obj):
            kwargs["form"] = forms.ModelForm
        return super().get_form(request, obj, change, **kwargs)

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        context["may_test"] = may(request, "test_channel")
        return super().render_change_form(request, context, *args, **kwargs)

    def test_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A message is sent to try a channel out."""
        self.require(request, "test_channel")
        channel = get_object_or_404(Channel, pk=pk)
        user: Any = request.user
        attempt(
            request,
            lambda: handling.test_channel(channel, user),
            f"A test was sent: look whether it has arrived at {channel.receiver}.",
        )
        return back(request, reverse(LIST))

    @admin.display(description="to")
    def where(self, channel: Channel) -> str:
        if not channel.sealed and not channel.reaches:
            return "IOTA_ADMINS, which is empty: nobody is told"
        return channel.receiver

    @admin.display(description="last message")
    def last(self, channel: Channel) -> str:
        found = Notification.objects.filter(channel=channel).first()
        if found is None:
            return "none yet"
        why = f" ({found.error})" if found.error else ""
        return f"{found.get_state_display()}{why}"
