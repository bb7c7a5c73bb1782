"""`/metrics` says what Redis and the database say, and answers when they do not."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.utils import timezone
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from apps.monitoring.metrics import Kind
from apps.monitoring.models import Alert, Sample, Source
from apps.monitoring.prometheus import collector, families
from apps.monitoring.prometheus.alerts import OpenAlert
from apps.monitoring.prometheus.families import FAMILIES, MOST_LIMITS, OTHER, SERIES
from apps.monitoring.prometheus.reading import State
from apps.ratelimits.models import RateLimit
from apps.ratelimits.storage.processes import ProcessStatus
from apps.ratelimits.storage.usage import CHECK_BOUNDS_US, LimitUsage, Usage, UsageStore

TOKEN = "metrics-token-0123456789-0123456789-abcd"
BEARER = {"HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture(autouse=True)
def _token(settings):
    settings.IOTA_METRICS_TOKEN = TOKEN


def read(client, **fields):
    """All samples: (name, labels) -> value."""
    response = client.get("/metrics", **{**BEARER, **fields})
    assert response.status_code == 200
    return samples(response.content.decode())


def samples(text):
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def value(found, name, **labels):
    return found.get((name, tuple(sorted(labels.items()))))


def sampled(values, *, kind=Kind.NODE, address="127.0.0.1:7000", age_s=3.0, **fields):
    now = timezone.now()
    source = Source.objects.create(
        kind=kind, address=address, first_seen_at=now, looked_at=now, **fields
    )
    Sample.objects.create(source=source, at=now - timedelta(seconds=age_s), values=values)
    return source


def test_counters_are_those_in_redis_of_whichever_process(engine, client):
    limit = RateLimit.objects.create(name="login", quota=10)
    engine.start()
    engine.refresh()
    store = UsageStore(engine.limiter.client, engine.limiter.keys)
    bounds = dict.fromkeys(CHECK_BOUNDS_US, 0) | {50: 7, 10_000: 2}
    told = {f"check:{bound}": number for bound, number in bounds.items()}
    for process in ("one", "two"):
        counted = {
            "requests": 20, "errors": 1, "allowed": 6, "denied": 4, "degraded": 2,
            "checks_sum_us": 500_000, "pool_waits": 3, **told, "check:over": 1,
            f"limit:{limit.pk}:allowed": 6, f"limit:{limit.pk}:denied": 4,
            f"limit:{limit.pk}:would_deny": 5, f"limit:{limit.pk}:degraded": 1,
            "limit:999:denied": 10_000,
        }  # fmt: skip
        assert store.add(process, 1, counted)
    found = read(client)
    assert value(found, "iota_up") == value(found, "iota_enforcing") == 1
    assert value(found, "iota_requests_total") == 40
    assert value(found, "iota_request_errors_total") == 2
    assert value(found, "iota_decisions_total", decision="denied") == 8
    assert value(found, "iota_decisions_degraded_total") == 4
    assert value(found, "iota_pool_waits_total") == 6
    name = "iota_check_duration_seconds"
    assert value(found, f"{name}_bucket", le="5e-05") == 14
    assert value(found, f"{name}_bucket", le="0.0075") == 14
    assert value(found, f"{name}_bucket", le="0.01") == 18
    assert value(found, f"{name}_bucket", le="+Inf") == value(found, f"{name}_count") == 20
    assert value(found, f"{name}_sum") == 1.0
    for verdict, number in (("allowed", 12), ("denied", 8), ("would_deny", 10)):
        labels = {"limit": "login", "verdict": verdict}
        assert value(found, "iota_limit_verdicts_total", **labels) == number
    assert value(found, "iota_limit_degraded_total", limit="login") == 2
    # A limit that is no more would look like a rush under any other name.
    assert {dict(labels).get("limit") for _, labels in found} == {None, "login"}


def test_the_answer_is_openmetrics_for_who_asks_for_it(engine, client):
    plain = client.get("/metrics", **BEARER)
    assert plain["Content-Type"].startswith("text/plain; version=")
    assert "no-store" in plain["Cache-Control"]
    response = client.get("/metrics", HTTP_ACCEPT=OPENMETRICS, **BEARER)
    assert response["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    text = response.content.decode()
    assert {family.name for family in openmetrics_families(text)} >= {"iota_up", "iota_requests"}
    assert client.get("/metrics", HTTP_ACCEPT="x," * 60_000, **BEARER).status_code == 200
    assert client.post("/metrics", **BEARER).status_code == 405


def everything():
    """A state in which every family has a sample."""
    limits = {number: LimitUsage(1, 1, 1, 1) for number in range(MOST_LIMITS + 3)}
    return State(
        enforcing=True,
        usage=Usage(since_s=1.0, limits=limits),
        ruleset_version=3,
        processes=[ProcessStatus("a", 1, "h", 0, 2)],
        names={number: f"limit-{number}" for number in limits},
        sources=[
            collector.SourceState(
                kind, f"10.0.0.1:{kind}", "primary", "valkey 9.1", True, 1.0,
                {name: 50.0 for name, metric in families.METRICS.items() if kind in metric.kinds},
            )
            for kind in families.SAMPLED
        ],
        watch_age_s=1.0,
        alerts=[OpenAlert("Redis: CPU", "critical", "firing", "10.0.0.1:7000")],
    )  # fmt: skip


def exposed(state, accept=""):
    body, _ = collector.exposition(state, accept)
    return samples(body.decode())


def test_every_declared_name_is_exposed_and_no_other():
    found = exposed(everything())
    assert {name for name, _ in found} == SERIES
    for name, labels in found:
        family = next(f for f in FAMILIES.values() if name in f.series)
        assert {label for label, _ in labels} - {"le"} == set(family.labels)
    text = collector.exposition(everything(), OPENMETRICS)[0].decode()
    assert list(openmetrics_families(text))


def test_the_documented_table_is_the_exposed_one():
    page = Path(__file__).resolve().parents[2] / "docs/reference/metrics.md"
    assert families.as_markdown() in page.read_text()


def test_names_are_by_prometheus_convention():
    for family in FAMILIES.values():
        assert family.name.startswith("iota_")
        assert (family.kind == families.COUNTER) == family.name.endswith("_total")
        assert not family.name.endswith(("_us", "_ms", "_s", "_percent"))
        assert family.help.endswith(".")


def test_series_of_limits_are_bounded():
    found = exposed(everything())
    names = {dict(labels)["limit"] for name, labels in found if name == "iota_limit_degraded_total"}
    assert len(names) == MOST_LIMITS + 1
    assert value(found, "iota_limit_verdicts_total", limit=OTHER, verdict="denied") == 3
    assert value(found, "iota_limits") == MOST_LIMITS + 3


def test_what_the_watch_sampled_is_in_base_units(engine, client):
    values = {"cpu_percent": 81.0, "round_trip_us": 1500.0, "memory_bytes": 1024, "keys": 7}
    sampled(values, role="primary", server="valkey 9.1")
    sampled({"queue_length": 12}, kind=Kind.BROKER, address="127.0.0.1:7001")
    found = read(client)
    node = {"node": "127.0.0.1:7000"}
    assert value(found, "iota_node_cpu_ratio", **node) == pytest.approx(0.81)
    assert value(found, "iota_node_round_trip_seconds", **node) == pytest.approx(0.0015)
    assert value(found, "iota_node_memory_bytes", **node) == 1024
    assert value(found, "iota_node_keys", **node) == 7
    assert value(found, "iota_broker_queue_length", broker="127.0.0.1:7001") == 12
    assert value(found, "iota_node_info", role="primary", server="valkey 9.1", **node) == 1
    source = {"kind": "node", "source": "127.0.0.1:7000"}
    assert value(found, "iota_source_up", **source) == 1
    assert 3 <= value(found, "iota_source_age_seconds", **source) < 60
    assert value(found, "iota_watch_age_seconds") < 60


def test_unknown_and_old_values_are_left_out_and_never_nothing(engine, client):
    sampled({"cpu_percent": None, "keys": 5}, unknown={"cpu_percent": "not permitted"})
    sampled({"keys": 9}, address="127.0.0.1:7002", age_s=300, error="away")
    found = read(client)
    assert value(found, "iota_node_cpu_ratio", node="127.0.0.1:7000") is None
    assert value(found, "iota_node_keys", node="127.0.0.1:7000") == 5
    assert value(found, "iota_node_keys", node="127.0.0.1:7002") is None
    old = {"kind": "node", "source": "127.0.0.1:7002"}
    assert value(found, "iota_source_up", **old) == 0
    assert value(found, "iota_source_age_seconds", **old) >= 300


def test_one_that_says_nothing_is_silent_since_it_answered_last(engine, client):
    now = timezone.now()
    sampled({}, age_s=300, answered_at=now - timedelta(seconds=90), error="away")
    found = read(client)
    assert 90 <= value(found, "iota_node_silent_seconds", node="127.0.0.1:7000") < 150


def test_one_that_left_the_topology_is_no_longer_told_of(engine, client):
    sampled({"keys": 5}, gone_at=timezone.now())
    found = read(client)
    assert [name for name, _ in found if name.startswith(("iota_node", "iota_source"))] == []


def test_alerts_that_are_open_are_told(engine, client):
    now = timezone.now()
    for state, name in (("firing", "Redis: CPU"), ("pending", "Queue"), ("resolved", "Memory")):
        Alert.objects.create(
            name=name, of="127.0.0.1:7000", metric="keys", severity="critical",
            direction="above", threshold=1, state=state, pending_since=now,
        )  # fmt: skip
    found = read(client)
    told = {
        dict(labels)["rule"]: one for (name, labels), one in found.items() if name == "iota_alerts"
    }
    assert told == {"Redis: CPU": 1, "Queue": 1}
    labels = {"rule": "Queue", "severity": "critical", "source": "127.0.0.1:7000"}
    assert value(found, "iota_alerts", state="pending", **labels) == 1


def test_a_watch_that_never_looked_has_no_age(engine, client):
    found = read(client)
    assert value(found, "iota_database_up") == 1
    assert value(found, "iota_watch_age_seconds") is None


def test_a_scrape_while_redis_is_frozen_answers_in_time(engine, client, redis_server):
    sampled({"keys": 5})
    read(client)
    redis_server.pause()
    try:
        began_s = time.monotonic()
        found = read(client)
        took_s = time.monotonic() - began_s
    finally:
        redis_server.resume()
    assert value(found, "iota_up") == 0
    assert value(found, "iota_requests_total") is None
    assert value(found, "iota_processes") is None
    assert value(found, "iota_node_keys", node="127.0.0.1:7000") == 5
    assert took_s < 3  # One timeout, of a second in tests.


def test_a_scrape_before_migrate_says_that_the_database_is_missing(engine, client):
    table = Source._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
    try:
        found = read(client)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE elsewhere RENAME TO {table}")
    assert value(found, "iota_database_up") == 0
    assert value(found, "iota_up") == 1


def test_scrapes_are_neither_counted_nor_denied(engine, client):
    RateLimit.objects.create(name="one", quota=1, window_unit=3600)
    for _ in range(3):
        read(client)
    assert client.get("/api/test").status_code == 200


class TestAccess:
    def test_closed_by_default(self, engine, client, settings):
        settings.IOTA_METRICS_TOKEN = ""
        for fields in ({}, {"HTTP_AUTHORIZATION": "Bearer "}, {"HTTP_AUTHORIZATION": "Bearer"}):
            response = client.get("/metrics", **fields)
            assert response.status_code == 403
            assert b"iota_" not in response.content

    @pytest.mark.parametrize(
        "field", ["", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer \xe4"]
    )
    def test_another_token_is_refused(self, engine, client, field):
        response = client.get("/metrics", HTTP_AUTHORIZATION=field)
        assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")

    def allowed(self, client, settings, networks, proxies=(), **fields):
        settings.IOTA_METRICS_TOKEN = ""
        settings.IOTA_METRICS_NETWORKS = tuple(map(ip_network, networks))
        config = settings.IOTA_RATELIMITS
        settings.IOTA_RATELIMITS = replace(config, trusted_proxies=tuple(map(ip_network, proxies)))
        return client.get("/metrics", **fields).status_code == 200

    @pytest.mark.parametrize(
        ("address", "networks", "may"),
        [
            ("10.1.2.3", ["10.0.0.0/8"], True),
            ("::ffff:10.1.2.3", ["10.0.0.0/8"], True),
            ("11.1.2.3", ["10.0.0.0/8", "192.0.2.0/24"], False),
            ("2001:db8::7", ["2001:db8::7/128"], True),
            ("2001:db8::8", ["2001:db8::7/128"], False),  # of the same /64
            ("", ["0.0.0.0/0", "::/0"], False),
        ],
    )
    def test_networks(self, engine, client, settings, address, networks, may):
        assert self.allowed(client, settings, networks, REMOTE_ADDR=address) is may

    @pytest.mark.parametrize(
        ("peer", "forwarded", "may"),
        [
            ("10.0.0.1", "10.9.9.9", True),
            ("10.0.0.1", "203.0.113.9", False),
            ("10.0.0.1", "10.9.9.9, 203.0.113.9", False),
            ("10.0.0.2", "10.9.9.9", False),  # no proxy of ours
        ],
    )
    def test_behind_a_proxy_the_client_counts(self, engine, client, settings, peer, forwarded, may):
        fields = {"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": forwarded}
        networks, proxies = ["10.0.0.0/8"], ["10.0.0.1/32"]
        assert self.allowed(client, settings, networks, proxies, **fields) is may

    def test_staff_need_the_permission(self, engine, client, settings):
        settings.IOTA_METRICS_TOKEN = ""
        user = User.objects.create_user("ada", password="x", is_staff=True)
        client.force_login(user)
        assert client.get("/metrics").status_code == 403
        user.user_permissions.add(Permission.objects.get(codename="view_source"))
        assert client.get("/metrics").status_code == 200
        user.is_staff = False
        user.save()
        assert client.get("/metrics").status_code == 403
