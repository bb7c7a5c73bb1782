"""Sources and samples as the collectors write them, for tests of what is made of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib import import_module

from django.apps import apps

from apps.monitoring import alerting
from apps.monitoring.metrics import Kind
from apps.monitoring.models import AlertRule, Sample, Source

rows = import_module("apps.monitoring.migrations.0004_alert_rules").rows
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def source(kind: str = Kind.NODE, address: str = "10.0.0.1:6379") -> Source:
    return Source.objects.get_or_create(
        kind=kind,
        address=address,
        defaults={"first_seen_at": START, "looked_at": START, "answered_at": START},
    )[0]


def sample(of: Source, seconds: float, **values: float | None) -> None:
    """It answered, at ``seconds`` after the start."""
    Sample.objects.create(source=of, at=at(seconds), values=values)
    Source.objects.filter(pk=of.pk).update(looked_at=at(seconds), answered_at=at(seconds))


def only(*metrics: str, **changes: object) -> list[AlertRule]:
    """The guide's rules of these metrics and no others, changed so."""
    rows(apps, None)  # a test that commits leaves the database empty
    AlertRule.objects.exclude(metric__in=metrics).update(enabled=False)
    rules = AlertRule.objects.filter(metric__in=metrics)
    if changes:
        rules.update(**changes)
    return list(rules)


def watch(of: Source, metric: str, *values: float | None, start: float = 0, **more: float) -> float:
    """A sample every ten seconds, each judged as it comes. Returns the time of the last."""
    seconds = start
    for place, value in enumerate(values):
        seconds = start + 10 * place
        sample(of, seconds, **{metric: value, **more})
        alerting.evaluate_all(at(seconds))
    return seconds
