"""The alerts and the rules in the database, as Prometheus is told of them."""

from __future__ import annotations

from dataclasses import dataclass

from ..models import Alert, AlertRule
from .rules import ExportedRule


@dataclass(frozen=True, slots=True)
class OpenAlert:
    rule: str
    severity: str
    state: str
    source: str


def open_alerts() -> list[OpenAlert]:
    """Pending and firing ones, as they were when they began. Raises django.db.Error."""
    rows = Alert.objects.filter(state__in=Alert.OPEN).order_by("pk")
    return [OpenAlert(row.name, row.severity, row.state, row.of) for row in rows]


def exported_rules() -> list[ExportedRule]:
    """Those that staff have not switched off."""
    return [exported(row) for row in AlertRule.objects.filter(enabled=True).order_by("pk")]


def exported(row: AlertRule) -> ExportedRule:
    return ExportedRule(
        name=row.name,
        metric=row.metric,
        direction=row.direction,
        threshold=row.threshold,
        for_s=row.for_s,
        at_least=row.at_least,
        severity=row.severity,
        words=row.words,
        guide=row.guide,
    )
