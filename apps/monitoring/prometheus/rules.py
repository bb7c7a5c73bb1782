"""Alert rules as a file for Prometheus, for who has it judge them: pure.

The same thresholds, in base units. Two things differ: Prometheus has no threshold of its own for
the end of an alert, and a value made of too few events is no value over a minute, not over a
sample. The file is YAML, its texts quoted as JSON, which YAML includes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..metrics import METRICS, Unit
from .families import scaled
from .promql import query

_SHOWN = {
    Unit.PERCENT: "{{ $value | humanizePercentage }}",
    Unit.US: "{{ $value | humanizeDuration }}",
    Unit.S: "{{ $value | humanizeDuration }}",
    Unit.BYTES: "{{ $value | humanize1024 }}B",
}


@dataclass(frozen=True, slots=True)
class ExportedRule:
    """``direction`` is ``above`` or ``below``; ``threshold`` is in the metric's own unit."""

    name: str
    metric: str
    direction: str
    threshold: float
    for_s: int
    at_least: int
    severity: str
    words: str = ""
    guide: str = ""


def expression(rule: ExportedRule) -> str:
    """Raises KeyError where there is no query for the rule's metric."""
    metric = METRICS[rule.metric]
    sign = ">" if rule.direction == "above" else "<"
    asked = query(rule.metric)
    if " " in asked:
        asked = f"({asked})"
    text = f"{asked} {sign} {scaled(metric, rule.threshold):.10g}"
    if rule.at_least and metric.evidence:
        text += f" and {query(metric.evidence)} >= {rule.at_least}"
    return text


OWN = (
    (
        "IOTA: not scraped",
        "absent(iota_up)",
        "5m",
        "critical",
        "Prometheus hears nothing of the site, and so of none of what is judged here.",
    ),
    (
        "IOTA: no counters",
        "iota_up == 0",
        "1m",
        "critical",
        "Redis does not give the limiter's counters: limits are decided by policy.",
    ),
    (
        "IOTA: nobody watches",
        "iota_watch_age_seconds > 60 or (iota_database_up == 1 unless iota_watch_age_seconds)",
        "2m",
        "critical",
        "No servers are looked at: start a worker of the queue 'monitoring', and beat.",
    ),
)
"""What staff's rules rest on: name, query, for how long, how bad, what it means."""


def as_file(rules: Iterable[ExportedRule]) -> str:
    """What ``rule_files`` of prometheus.yml names. Of the rules, those that can be asked of
    Prometheus; a line says which cannot."""
    lines = ["# Made by `manage.py prometheus rules`: edit the rules in the admin.", "groups:"]
    lines += ["- name: iota", "  interval: 15s", "  rules:"]
    for rule in rules:
        try:
            asked = expression(rule)
        except KeyError:
            lines.append(f"  # {json.dumps(rule.name)}: no query for {json.dumps(rule.metric)}")
            continue
        shown = _SHOWN.get(METRICS[rule.metric].unit, "{{ $value | humanize }}")
        notes = {"summary": _literal(rule.words or rule.name), "description": f"It is {shown}."}
        if rule.guide:
            notes["guide"] = _literal(rule.guide)
        lines += _rule(rule.name, asked, f"{rule.for_s}s", rule.severity, notes)
    lines += ["- name: iota-itself", "  interval: 15s", "  rules:"]
    for name, asked, lasting, severity, words in OWN:
        lines += _rule(name, asked, lasting, severity, {"summary": words})
    return "\n".join(lines) + "\n"


def _rule(
    name: str, asked: str, lasting: str, severity: str, notes: dict[str, str]
) -> Iterator[str]:
    yield f"  - alert: {json.dumps(name)}"
    yield f"    expr: {json.dumps(asked)}"
    yield f"    for: {lasting}"
    yield f"    labels: {json.dumps({'severity': severity})}"
    yield f"    annotations: {json.dumps(notes)}"


def _literal(text: str) -> str:
    """What staff wrote is no template of Prometheus'."""
    return text.replace("{{", '{{ "{{" }}')
