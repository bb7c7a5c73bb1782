"""The suites that are recorded over time: each measures what it says, in a moment."""

from __future__ import annotations

import shutil

import pytest

from apps.benchmarks import cores, rounds
from apps.benchmarks.registry import Run, load_suites
from apps.benchmarks.servers import Server
from apps.benchmarks.suites import configuration, throughput
from apps.benchmarks.suites import redis_server as redis_server_suite
from apps.benchmarks.suites.throughput import together


@pytest.fixture
def run(redis_server, redis_client, monkeypatch):
    monkeypatch.setattr(rounds, "ROUND_S", 0.001)
    monkeypatch.setattr(rounds, "WARM_UP_S", 0.001)
    monkeypatch.setattr(throughput, "KEYS", (10, 200))
    for module, name in (
        (throughput, "SLOT_S"),
        (redis_server_suite, "POOL_SLOT_S"),
        (configuration, "READ_SLOT_S"),
    ):
        monkeypatch.setattr(module, name, 0.01)
    monkeypatch.setattr(redis_server_suite, "REQUESTS", 1_000)
    monkeypatch.setattr(configuration, "STARTS", 1)
    usable = cores.usable() or [None]
    return Run(Server(redis_server.url, "test"), redis_client, 2, usable[0], usable[-1])


@pytest.mark.parametrize(
    ("name", "contestants"),
    [
        (
            "checks-per-second",
            {
                f"{algorithm}, {limits}"
                for algorithm in ("token_bucket", "fixed_window", "sliding_window", "sliding_log")
                for limits in (1, 3, 10)
            },
        ),
        ("scaling-keys", {"10 keys", "200 keys"}),
        ("scaling-threads", {f"{number} threads" for number in (1, 2, 4, 8, 16)}),
        ("scaling-limits", {f"{number:,} limits" for number in (1, 10, 100, 1000, 10_000)}),
        ("redis-ping", {"redis-py"}),
        ("redis-evalsha", {"return 1", "TIME and SET"}),
        ("redis-pipelined", {"SET", "GET"}),
        ("redis-pool", {"1 threads", "8 threads"}),
        ("config-validation", {"4 variables", "20 variables"}),
        ("config-reads", {"1 threads", "8 threads"}),
        ("config-memory", {"4 variables", "20 variables"}),
        ("config-cold-start", set(configuration.STEPS)),
        ("ruleset", {"publish", "fetch", "compile"}),
        ("check-processor", {"iota"}),
    ],
)
def test_each_contestant_is_measured_and_nothing_is_left_in_redis(run, name, contestants):
    (one,) = load_suites().named([name])
    outcome = one.measure(run)
    assert set(outcome.results) == contestants
    assert all(result.minimum > 0 for result in outcome.results.values())
    assert run.client.dbsize() == 0


@pytest.mark.skipif(not shutil.which("redis-benchmark"), reason="redis-benchmark is not installed")
def test_redis_benchmark_is_run_and_read(run):
    (one,) = load_suites().named(["redis-benchmark"])
    results = one.measure(run).results
    assert {name: result.n for name, result in results.items()} == {"SET": 2, "GET": 2}


def test_without_redis_benchmark_that_is_said(run, monkeypatch):
    monkeypatch.setattr(redis_server_suite.shutil, "which", lambda name: None)
    (one,) = load_suites().named(["redis-benchmark"])
    outcome = one.measure(run)
    assert (outcome.results, outcome.absent["SET"]) == ({}, "redis-benchmark is not installed")


def test_a_fresh_process_that_reads_the_settings_takes_longer_than_one_that_does_nothing(run):
    (one,) = load_suites().named(["config-cold-start"])
    results = one.measure(run).results
    assert results["django.setup"].p50 > results[configuration.IMPORT].p50


def test_an_error_in_a_thread_ends_the_measurement():
    def fails(who):
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        together(fails, 2, 0.01)
