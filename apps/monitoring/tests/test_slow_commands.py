"""A slow script in the slow log, and its argument nowhere."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import pytest

from apps.monitoring.hooks.slow_commands import Slow, judge
from apps.ratelimits.storage import scripts
from apps.ratelimits.storage.server_findings import Level
from tests import redis_files
from tests.servers import RedisProcess, flavours

from .looking import codes, find
from .test_latency import SPIN

OPTIONS = ["--slowlog-log-slower-than", "1000", "--latency-monitor-threshold", "5"]


@pytest.fixture(params=flavours())
def server(request):
    made = RedisProcess(request.param, OPTIONS).start()
    yield made
    made.stop()


def test_a_slow_script_is_told_without_its_arguments(server):
    with server.client() as client:
        client.eval(SPIN, 1, "iota:b:{ada@example.com}", 500_000)
        client.eval(SPIN, 1, "shop:ada@example.com", 5_000_000)
    slow, events, *_ = find("slow-commands", server.url)
    assert (slow.level, slow.code) == (Level.WARNING, "slow-log")
    assert "2 commands in a day over 1 ms" in slow.evidence
    assert "1 of them on the limiter's keys" in slow.evidence
    worst, own = re.findall(r"worst: EVAL ([\d.]+) ms, \d+ s ago", slow.evidence)
    assert float(worst) > float(own) > 1
    assert "server apart" in slow.to_do
    assert (events.level, events.code) == (Level.WARNING, "latency-events")
    assert "ms at worst" in events.evidence
    assert "ada" not in json.dumps([asdict(slow), asdict(events)])


def test_a_script_of_ours_is_named(server):
    with server.client() as client:
        client.config_set("slowlog-log-slower-than", 0)
        script = scripts.load("living")
        client.script_load(script.source)
        client.evalsha(script.sha, 1, "iota:processes")
        client.config_set("slowlog-log-slower-than", 1_000)
    slow, *_ = find("slow-commands", server.url)
    assert "EVALSHA (living)" in slow.evidence
    assert "SCRIPT" not in slow.evidence or "the limiter's worst: EVALSHA (living)" in slow.evidence


def test_a_quiet_server_is_information(server):
    with server.client() as client:
        client.slowlog_reset()
        client.execute_command("LATENCY RESET")
    (found,) = find("slow-commands", server.url)
    assert (found.level, found.code) == (Level.INFO, "slow-log")


def test_without_a_slow_log_it_is_not_known(server):
    with server.client() as client:
        client.config_set("slowlog-log-slower-than", -1)
        client.config_set("latency-monitor-threshold", 0)
    found = find("slow-commands", server.url)
    assert codes(found) == ["slow-log-off", "latency-monitor-off"]
    assert found[0].level is Level.UNKNOWN


def test_who_waits_in_a_blocking_command_is_counted(server):
    with server.client() as client, server.client() as other:
        connection = client.connection_pool.get_connection()
        connection.send_command("BLPOP", "celery", 0)
        while not other.info("clients")["blocked_clients"]:
            pass
        found = {one.code: one for one in find("slow-commands", server.url)}
        connection.disconnect()
    assert found["blocked-clients"].evidence.startswith("1 blocked of ")


def test_what_may_not_be_asked_is_unknown(request):
    server = redis_files.with_users("valkey")
    request.addfinalizer(server.stop)
    server.start()
    (found,) = find("slow-commands", redis_files.url("iota", f"127.0.0.1:{server.port}"))
    assert (found.level, found.code) == (Level.UNKNOWN, "not-known")
    assert "IOTA_REDIS_OPERATOR_URL" in found.to_do


def test_who_is_to_blame_decides_what_to_do():
    ours = Slow("EVALSHA", 12_000, 60, True, "check")
    theirs = Slow("KEYS", 900_000, 7_300, False)
    assert "sliding_log" in judge([ours], "here", 1_000).to_do
    found = judge([ours, theirs], "here", 1_000)
    assert "the worst: KEYS 900.0 ms, 2 h ago" in found.evidence
    assert "the limiter's worst: EVALSHA (check) 12.0 ms, 1 min ago" in found.evidence
