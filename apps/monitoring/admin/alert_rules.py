"""Alert rules: what is judged, in a sentence that the form keeps true."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget

from ..guide import link
from ..metrics import METRICS, Unit
from ..models import AlertRule
from ..wording import of_metric
from .alert_pages import AlertPageAdmin

FIXED = ("metric", "direction")
"""Once it is made: its state and its alerts are of them."""

UNITS = {
    Unit.US: "microseconds: 10000 is 10 ms",
    Unit.S: "seconds",
    Unit.PERCENT: "percent",
    Unit.BYTES: "bytes",
    Unit.PER_S: "so many a second",
    Unit.COUNT: "numbers of them",
}


def choices() -> list[tuple[str, str]]:
    found = [(metric.name, f"{metric.label} ({metric.unit})") for metric in METRICS.values()]
    return [("", "Choose"), *sorted(found, key=lambda one: one[1])]


class AlertRuleForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = AlertRule
        fields = (
            "name", "metric", "direction", "threshold", "for_s", "clear", "at_least", "severity",
            "enabled", "words", "guide",
        )  # fmt: skip
        widgets = {"metric": UnfoldAdminSelectWidget(choices=choices())}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        metric = METRICS.get(self.instance.metric)
        if metric is not None and "threshold" in self.fields:
            self.fields["threshold"].help_text = f"In {UNITS.get(metric.unit, metric.unit)}."


@admin.register(AlertRule)
class AlertRuleAdmin(AlertPageAdmin):
    form = AlertRuleForm
    list_display = ("name", "condition", "shown_severity", "enabled", "where")
    list_filter = ("severity", "enabled")
    search_fields = ("name", "metric", "words")
    change_form_before_template = "monitoring/rule_sentence.html"
    fieldsets = [
        (None, {"fields": ("name", "enabled", "severity")}),
        ("When", {"fields": ("metric", "direction", "threshold", "for_s", "clear", "at_least")}),
        ("What is said", {"fields": ("words", "guide", "cure")}),
    ]
    readonly_fields = ("cure",)

    class Media:
        js = ["monitoring/rule.js"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.readonly_fields, *(FIXED if obj else ()))

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        facts = {
            metric.name: {"label": metric.label, "unit": metric.unit, "of": metric.evidence}
            for metric in METRICS.values()
        }
        rule = AlertRule.objects.filter(pk=object_id).first() if object_id else None
        context = {
            "sentence": sentence(rule) if rule else "",
            "metric_facts": facts,
            "rule_facts": {"metric": rule.metric, "direction": rule.direction} if rule else {},
        }
        return super().changeform_view(
            request, object_id, form_url, {**(extra_context or {}), **context}
        )

    @admin.display(description="when")
    def condition(self, rule: AlertRule) -> str:
        return rule.condition

    @display(  # type: ignore[untyped-decorator]
        description="severity", label={"Critical": "danger", "Warning": "warning"}
    )
    def shown_severity(self, rule: AlertRule) -> str:
        return rule.get_severity_display()

    @admin.display(description="now")
    def where(self, rule: AlertRule) -> str:
        rows = rule.states.values("phase").annotate(n=Count("pk")).order_by("phase")
        if not rule.enabled:
            return "switched off"
        return ", ".join(f"{row['n']} {row['phase']}" for row in rows) or "not judged yet"

    @admin.display(description="what to do")
    def cure(self, rule: AlertRule) -> SafeString | str:
        if not rule.guide:
            return "Nothing is written: name a heading of the guide."
        return format_html('<a class="bm-link" href="{}">Read it</a>', link(rule.guide))


def sentence(rule: AlertRule) -> str:
    """What it does, whole; ``rule.js`` says the same of what is typed in."""
    from_events = METRICS[rule.metric].evidence if rule.metric in METRICS else ""
    evidence = (
        f", where at least {rule.at_least:,} {from_events} are behind it" if rule.at_least else ""
    )
    over = rule.threshold if rule.clear is None else rule.clear
    over_at = of_metric(over, rule.metric)
    return f"{rule.severity.capitalize()}: {rule.condition}{evidence}. Over at {over_at}."
