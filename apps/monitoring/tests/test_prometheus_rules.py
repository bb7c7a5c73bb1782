"""What is shipped for Prometheus and Grafana asks only for what ``/metrics`` exposes."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

from apps.monitoring.metrics import METRICS, Kind
from apps.monitoring.models import AlertRule
from apps.monitoring.prometheus import promql, rules
from apps.monitoring.prometheus.alerts import exported, open_alerts
from apps.monitoring.prometheus.families import SERIES, as_markdown
from apps.monitoring.prometheus.rules import ExportedRule, as_file, expression

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
SHIPPED = importlib.import_module("apps.monitoring.migrations.0004_alert_rules").RULES

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)


def shipped() -> list[ExportedRule]:
    return [exported(AlertRule(**values)) for values in SHIPPED]


def rule(**changes) -> ExportedRule:
    values = {
        "name": "cpu", "metric": "cpu_percent", "direction": "above", "threshold": 80,
        "for_s": 300, "at_least": 0, "severity": "critical",
    }  # fmt: skip
    return ExportedRule(**values | changes)


def asked_for(text: str) -> set[str]:
    return set(re.findall(r"\biota_\w+", text))


def promtool(*arguments: str) -> str:
    ran = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_every_metric_of_the_watch_has_a_query_of_exposed_series():
    for name in METRICS:
        assert asked_for(promql.query(name)), name
        assert asked_for(promql.query(name)) <= SERIES
    for name, metric in METRICS.items():
        if Kind.LIMITER in metric.kinds and len(metric.kinds) == 1:
            assert name in promql.queryable(Kind.LIMITER)


def test_the_guides_rules_can_all_be_asked_of_prometheus():
    assert len(shipped()) >= 8
    for one in shipped():
        assert asked_for(expression(one)) <= SERIES


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({}, "iota_node_cpu_ratio > 0.8"),
        ({"direction": "below"}, "iota_node_cpu_ratio < 0.8"),
        (
            {"metric": "round_trip_us", "threshold": 10_000},
            "iota_node_round_trip_seconds > 0.01",
        ),
        ({"metric": "keys", "threshold": 5e6}, "iota_node_keys > 5000000"),
        (
            {"metric": "error_percent", "threshold": 1, "at_least": 100},
            "(rate(iota_request_errors_total[1m]) / rate(iota_requests_total[1m])) > 0.01"
            " and increase(iota_requests_total[1m]) >= 100",
        ),
    ],
)
def test_thresholds_are_in_base_units(changes, asked):
    assert expression(rule(**changes)) == asked


def test_a_rule_that_cannot_be_asked_is_named_and_keeps_no_other_out():
    text = as_file([rule(name="gone\nis", metric="gone"), rule()])
    assert '# "gone\\nis": no query for "gone"' in text
    assert 'alert: "cpu"' in text


def test_the_shipped_file_is_what_the_command_writes_of_the_shipped_rules():
    assert (DEPLOY / "prometheus/rules.yml").read_text() == as_file(shipped())


def test_the_command_writes_what_staff_have(db):
    AlertRule.objects.all().delete()
    AlertRule.objects.create(name="Mine", metric="keys", threshold=7, for_s=5)
    AlertRule.objects.create(name="Off", metric="keys", threshold=7, enabled=False)
    written = StringIO()
    call_command("prometheus", "rules", stdout=written)
    assert 'expr: "iota_node_keys > 7"\n    for: 5s' in written.getvalue()
    assert "Off" not in written.getvalue()
    names = StringIO()
    call_command("prometheus", "names", stdout=names)
    assert names.getvalue() == as_markdown()
    assert open_alerts() == []


@needs_promtool
def test_promtool_accepts_the_shipped_files():
    assert f"{len(shipped()) + len(rules.OWN)} rules found" in promtool(
        "check", "rules", str(DEPLOY / "prometheus/rules.yml")
    )
    promtool("check", "config", "--syntax-only", str(DEPLOY / "prometheus/prometheus.yml"))


@needs_promtool
def test_promtool_accepts_whatever_staff_write(tmp_path):
    hostile = 'a "b" {{ $labels.x }} {{ \\ : # \n - c: |'
    every = [
        rule(name=f"{hostile} {name}", metric=name, words=hostile, guide=hostile, at_least=3)
        for name in METRICS
    ]
    (tmp_path / "rules.yml").write_text(as_file(every))
    promtool("check", "rules", str(tmp_path / "rules.yml"))


STORIES = """
rule_files: [{rules}]
evaluation_interval: 15s
tests:
- interval: 15s
  input_series:
  - series: 'iota_up{{job="iota"}}'
    values: '1x80'
  - series: 'iota_watch_age_seconds{{job="iota"}}'
    values: '5x80'
  - series: 'iota_node_cpu_ratio{{job="iota",node="a"}}'
    values: '0.9x80'
  - series: 'iota_node_cpu_ratio{{job="iota",node="b"}}'
    values: '0.7x80'
  - series: 'iota_requests_total{{job="iota"}}'
    values: '0+1000x80'
  - series: 'iota_request_errors_total{{job="iota"}}'
    values: '0+20x80'
  - series: 'iota_check_duration_seconds_bucket{{job="iota",le="0.01"}}'
    values: '0+5x80'
  - series: 'iota_check_duration_seconds_bucket{{job="iota",le="+Inf"}}'
    values: '0+10x80'
  - series: 'iota_check_duration_seconds_count{{job="iota"}}'
    values: '0+10x80'
  - series: 'iota_broker_queue_length{{job="iota",broker="c"}}'
    values: '1500x80'
  - series: 'iota_requests_in_flight{{job="iota"}}'
    values: '3x80'
  alert_rule_test:
  - eval_time: 4m
    alertname: "Redis: CPU"
    exp_alerts: []
  - eval_time: 6m
    alertname: "Redis: CPU"
    exp_alerts:
    - exp_labels: {{severity: critical, job: iota, node: a}}
      exp_annotations: {cpu}
  - eval_time: 6m
    alertname: "Site: error rate"
    exp_alerts:
    - exp_labels: {{severity: critical, job: iota}}
      exp_annotations: {errors}
  - eval_time: 6m
    alertname: "Limiter: check latency"  # 40 checks a minute: too few to tell
    exp_alerts: []
  - eval_time: 6m
    alertname: "Queue length"
    exp_alerts:
    - exp_labels: {{severity: warning, job: iota, broker: c}}
      exp_annotations: {queue}
  - eval_time: 6m
    alertname: "IOTA: no counters"
    exp_alerts: []
"""


@needs_promtool
def test_the_shipped_rules_fire_when_they_should(tmp_path):
    by_name = {one.name: one for one in shipped()}

    def notes(name: str, shown: str) -> str:
        one = by_name[name]
        said = {"summary": one.words, "description": f"It is {shown}.", "guide": one.guide}
        return json.dumps(said)

    story = STORIES.format(
        rules=DEPLOY / "prometheus/rules.yml",
        cpu=notes("Redis: CPU", "90%"),
        errors=notes("Site: error rate", "2%"),
        queue=notes("Queue length", "1.5k"),
    )
    (tmp_path / "test.yml").write_text(story)
    promtool("test", "rules", str(tmp_path / "test.yml"))


class TestDashboard:
    dashboard = json.loads((DEPLOY / "grafana/iota.json").read_text())

    def expressions(self) -> list[str]:
        targets = [one["expr"] for panel in self.panels() for one in panel["targets"]]
        return targets + [one["expr"] for one in self.dashboard["annotations"]["list"]]

    def panels(self) -> list[dict]:
        return [panel for panel in self.dashboard["panels"] if panel["type"] != "row"]

    def test_it_asks_only_for_what_is_exposed(self):
        assert len(self.expressions()) >= 20
        for asked in self.expressions():
            assert asked_for(asked), asked
            assert asked_for(asked) <= SERIES, asked
        for variable in self.dashboard["templating"]["list"]:
            assert asked_for(json.dumps(variable)) <= SERIES

    def test_its_panels_are_whole_and_do_not_overlap(self):
        ids = [panel["id"] for panel in self.dashboard["panels"]]
        assert len(set(ids)) == len(ids)
        taken: set[tuple[int, int]] = set()
        for panel in self.dashboard["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            own = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not own & taken, panel["title"]
            taken |= own
            if panel["type"] != "row":
                assert panel["title"]
                assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
                assert panel["fieldConfig"]["defaults"]["unit"]

    @needs_promtool
    def test_prometheus_understands_what_it_asks(self, tmp_path):
        lines = ["groups:", "- name: dashboard", "  rules:"]
        for number, asked in enumerate(self.expressions()):
            asked = asked.replace("$__rate_interval", "1m").replace("$job", "iota")
            lines += [f"  - record: asked:{number}", f"    expr: {json.dumps(asked)}"]
        (tmp_path / "asked.yml").write_text("\n".join(lines))
        promtool("check", "rules", str(tmp_path / "asked.yml"))
