"""A look, kept: on real servers and a real database."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from apps.monitoring import sampling
from apps.monitoring.collecting import everything
from apps.monitoring.collecting.taken import Said, Taken
from apps.monitoring.history import latest
from apps.monitoring.metrics import METRICS, Kind
from apps.monitoring.models import Sample, Source
from apps.ratelimits import conf
from apps.ratelimits.engine import forget_engine, get_engine
from tests.servers import RedisProcess, flavours, sentinel

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 1, 12, 0, 7, tzinfo=UTC)


@pytest.fixture
def watching(settings):
    """Points the site at a server."""

    def at(url: str, operator_url: str = "") -> None:
        settings.IOTA_RATELIMITS = replace(
            conf.current(), redis_url=url, redis_operator_url=operator_url
        )
        forget_engine()

    yield at
    get_engine().limiter.close()
    forget_engine()


@pytest.fixture(params=flavours())
def server(request):
    made = RedisProcess(request.param).start()
    yield made
    made.stop()


def nodes() -> dict[str, Source]:
    return {source.address: source for source in Source.objects.filter(kind=Kind.NODE)}


def test_one_look_is_a_sample_of_each_source(server, watching):
    watching(server.url)
    assert sampling.take(NOW) == 3
    kinds = {source.kind: source for source in Source.objects.all()}
    assert set(kinds) == set(Kind)
    for kind, source in kinds.items():
        (sample,) = source.samples.all()
        assert sample.at == datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
        assert sample.resolution_s == 10
        for name, value in sample.values.items():
            assert Kind(kind) in METRICS[name].kinds, name
            # What is unknown has its reason, and nothing else has one.
            assert (value is None) == (name in source.unknown), name
    queues = kinds["broker"].notes["queue_length"]
    assert queues.startswith("celery 0, benchmarks 0, loadtests 0, monitoring 0")
    assert kinds["limiter"].role == kinds["limiter"].address == ""


def test_a_second_look_within_ten_seconds_changes_no_sample(server, watching):
    watching(server.url)
    sampling.take(NOW)
    values = Sample.objects.get(source__kind="node").values
    sampling.take(NOW + timedelta(seconds=2))
    assert Sample.objects.get(source__kind="node").values == values
    assert Source.objects.get(kind="node").looked_at == NOW + timedelta(seconds=2)


def test_every_metric_of_a_node_and_the_limiter_is_there_on_the_second_look(server, watching):
    watching(server.url)
    sampling.take(NOW)
    time.sleep(0.05)
    sampling.take(NOW + timedelta(seconds=10))
    (node,) = nodes().values()
    values = latest(node).values
    # And what no sample has.
    absent = {"silent_s", "pong_age_s", "links_lost", "link_bytes"}
    absent |= {"replication_lag_s", "replicas_lost", "command_us", "command_p99_us"}
    named = {name for name, metric in METRICS.items() if Kind.NODE in metric.kinds}
    assert set(values) == named - absent
    assert values["cpu_percent"] >= 0
    assert values["ops_per_s"] > 0
    source = Source.objects.get(kind="limiter")
    named = {name for name, metric in METRICS.items() if Kind.LIMITER in metric.kinds}
    none = {"silent_s", "error_percent", "check_p50_us", "check_p99_us"}
    assert named - none <= set(latest(source).values) <= named


def test_no_restart_makes_a_negative_or_giant_rate(server, watching):
    watching(server.url)
    with server.client() as client:
        for _ in range(2_000):
            client.ping()
    sampling.take(NOW)
    first = Source.objects.get(kind="node").run_id
    server.stop(remove=False)
    server.start()
    sampling.take(NOW + timedelta(seconds=10))
    time.sleep(0.05)
    sampling.take(NOW + timedelta(seconds=20))
    (node,) = nodes().values()
    assert node.run_id != first
    rates = [sample.values["ops_per_s"] for sample in node.samples.order_by("at")]
    assert rates[:2] == [None, None]
    assert 0 < rates[2] < 2_000
    assert node.first_seen_at == NOW


def test_a_server_that_is_away_keeps_what_it_said_and_the_others_go_on(server, watching):
    watching(server.url)
    sampling.take(NOW)
    server.pause()
    try:
        began_s = time.monotonic()
        assert sampling.take(NOW + timedelta(seconds=10)) == 1  # the broker
        assert time.monotonic() - began_s < everything.WITHIN_S + 1
    finally:
        server.resume()
    (node,) = nodes().values()
    assert "Timeout" in node.error
    assert (node.answered_at, node.looked_at) == (NOW, NOW + timedelta(seconds=10))
    assert node.samples.count() == 1
    assert Source.objects.get(kind="limiter").error
    assert Source.objects.get(kind="broker").error == ""
    assert sampling.take(NOW + timedelta(seconds=20)) == 3
    assert nodes()[node.address].error == ""


def test_a_node_that_left_is_gone_and_forgotten_days_later(watching):
    at_once = ["--repl-diskless-sync-delay", "0"]
    primary = RedisProcess(options=at_once).start()
    replica = RedisProcess(options=["--replicaof", f"127.0.0.1 {primary.port}"]).start()
    watcher = sentinel("valkey", primary).start()
    try:
        watching(f"redis+sentinel://127.0.0.1:{watcher.port}/main/0")
        place = f"127.0.0.1:{replica.port}"

        def both() -> bool:
            sampling.take(timezone.now())
            return place in nodes() and nodes()[place].role == "replica"

        wait_for(both)
        of_primary = nodes()[f"127.0.0.1:{primary.port}"]
        assert latest(of_primary) is not None
        # It stops: it is missing, but the Sentinel still names it.
        replica.kill()
        wait_for(lambda: sampling.take(timezone.now()) and nodes()[place].error)
        assert nodes()[place].gone_at is None
        wait_for(lambda: lost_of(primary))
        watcher_client = watcher.client()
        watcher_client.execute_command("SENTINEL RESET main")
        watcher_client.close()
        now = timezone.now()
        wait_for(lambda: sampling.take(now) and nodes()[place].gone_at)
        assert nodes()[place].error == "It is no part of the topology any more."
        assert nodes()[place].answered_at is not None
        # Nobody names any server now: nothing is known to have left.
        watcher.kill()
        sampling.take(now + timedelta(days=1))
        assert nodes()[f"127.0.0.1:{primary.port}"].error == ""
        assert nodes()[f"127.0.0.1:{primary.port}"].gone_at is None
    finally:
        for one in (primary, replica, watcher):
            one.stop()


def lost_of(primary: RedisProcess) -> bool:
    """A whole ten seconds later each time: two looks of one moment are one sample."""
    source = nodes()[f"127.0.0.1:{primary.port}"]
    sampling.take(latest(source).at + timedelta(seconds=10))
    values = latest(source).values
    return values.get("replicas_lost") == 1 and values["replication_lag_s"] >= 0


def test_what_has_been_gone_for_long_is_deleted(server, watching):
    watching(server.url)
    Source.objects.create(
        kind="node", address="old:1", first_seen_at=NOW, looked_at=NOW, gone_at=NOW
    )
    sampling.take(NOW + timedelta(days=13))
    assert "old:1" in nodes()
    sampling.take(NOW + timedelta(days=15))
    assert set(nodes()) == {f"127.0.0.1:{server.port}"}


def test_a_new_role_has_other_replicas():
    def taken(role: str, replicas: dict[str, bool] | None) -> Taken:
        return Taken(Kind.NODE, "a:1", Said({"keys": 1.0}), 5.0, "run", role, replicas=replicas)

    sampling.keep(taken("primary", {"b": True}), None, NOW)
    source = Source.objects.get()
    sampling.keep(taken("replica", None), source, NOW + timedelta(seconds=10))
    sampling.keep(taken("primary", {}), source, NOW + timedelta(seconds=20))
    assert "replicas_lost" not in latest(source).values


def test_figures_have_six_digits():
    said = Said({"keys": 1234567.891, "ops_per_s": 0.000123456789, "clients": None})
    sampling.keep(Taken(Kind.NODE, "a:1", said, 5.0, "run"), None, NOW)
    assert Sample.objects.get().values == {
        "keys": 1234570.0,
        "ops_per_s": 0.000123457,
        "clients": None,
    }


def wait_for(condition, within_s: float = 20.0):
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found
