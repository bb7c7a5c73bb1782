"""Processes that say that they live, on real servers, and quotas divided by how many do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from apps.ratelimits.policy.rules import FailurePolicy
from apps.ratelimits.storage.failures import Kind, Outage
from apps.ratelimits.storage.heartbeat import Heartbeat
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.processes import BEAT_S, LOST_MS, Processes, ProcessStatus, decode
from tests.clusters import ClusterProcesses
from tests.servers import RedisProcess

from .limiters import A, away, make_limiter, rule

ROOT = Path(__file__).resolve().parents[3]
ONE = ProcessStatus("one", 7, "ab12", 1_000, 5)
KEYS = Keys("iota:")


@pytest.fixture
def client(each_redis):
    with each_redis.client() as made:
        made.flushdb()
        yield made


@pytest.fixture
def processes(client):
    return Processes(client, KEYS)


def test_each_process_counts_once_however_often_it_speaks(processes):
    assert [processes.beat(ONE) for _ in range(3)] == [1, 1, 1]
    assert processes.beat(replace(ONE, process="two", started_s=2_000)) == 2
    assert [status.process for status in processes.alive()] == ["one", "two"]


def test_one_that_leaves_is_not_counted_any_more(processes):
    processes.beat(ONE)
    processes.beat(replace(ONE, process="two"))
    processes.leave("one")
    assert processes.beat(replace(ONE, process="two")) == 1


def set_seen(client, process, ago_s):
    """As if it had spoken so long ago; the lost may be dropped again at once."""
    seconds, part = client.time()
    seen_us = seconds * 1_000_000 + part - int(ago_s * 1_000_000)
    text = client.hget(KEYS.processes, process).partition(b" ")[2]
    client.hset(KEYS.processes, process, b"%d %b" % (seen_us, text))
    client.hset(KEYS.processes, "swept", "0")


def test_one_that_was_not_heard_of_for_three_seconds_is_dropped(client, processes):
    for name in ("one", "two", "three"):
        processes.beat(replace(ONE, process=name))
    set_seen(client, "one", LOST_MS / 1000 + 0.001)
    set_seen(client, "two", LOST_MS / 1000 - 0.5)
    assert {status.process for status in processes.alive()} == {"two", "three"}
    assert processes.beat(replace(ONE, process="three")) == 2
    assert client.hkeys(KEYS.processes).count(b"one") == 0


def test_a_clock_that_was_set_back_keeps_nobody_for_ever(client, processes):
    processes.beat(ONE)
    set_seen(client, "one", -3_600)
    assert processes.beat(replace(ONE, process="two")) == 2
    seen_us = int(client.hget(KEYS.processes, "one").partition(b" ")[0])
    assert seen_us <= client.time()[0] * 1_000_000 + 1_000_000


def test_a_row_of_another_form_is_dropped(client, processes):
    client.hset(KEYS.processes, "odd", "not a row")
    client.hset(KEYS.processes, "odder", f"{time.time_ns() // 1000} [1]")
    processes.beat(ONE)
    assert [status.process for status in processes.alive()] == ["one"]
    assert client.hget(KEYS.processes, "odd") is None


def test_the_key_is_gone_when_all_are(client, processes):
    processes.beat(ONE)
    assert LOST_MS - 1_000 < client.pttl(KEYS.processes) <= LOST_MS


def test_a_status_survives_being_stored_and_is_small():
    many = 2**53
    status = replace(
        ONE,
        failures=dict.fromkeys(map(str, Kind), many),
        decided=dict.fromkeys(map(str, FailurePolicy), many),
        outage=Outage(Kind.CLUSTERDOWN, many + 0.25, many + 0.5, many),
        version=many,
        in_flight=many,
        pool_in_use=many,
        config_load_us=many,
        ruleset_compile_us=many,
    )
    assert decode("one", status.encode(), 0.0) == status
    assert len(status.encode()) < 1_024
    assert json.loads(status.encode()).keys() <= set(ProcessStatus.__dataclass_fields__)


def test_older_and_newer_processes_understand_each_other():
    said = json.loads(replace(ONE, in_flight=3).encode())
    newer = json.dumps({**said, "something": {"new": 1}})
    assert decode("one", newer, 0.0) == replace(ONE, in_flight=3)
    for name in ("in_flight", "pool_in_use", "config_load_us", "ruleset_compile_us"):
        del said[name]
    assert decode("one", json.dumps(said), 0.0) == ONE


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limiter(each_redis, client):
    made = make_limiter(each_redis.url, local_processes=2)
    yield made
    made.close()


def heartbeat(processes, limiter, clock) -> Heartbeat:
    return Heartbeat(processes, limiter, lambda: 5, host_key=b"k" * 32, clock_s=clock)


def test_a_process_speaks_once_a_second(client, processes, limiter, clock):
    pulse = heartbeat(processes, limiter, clock)
    pulse.beat()
    client.delete(KEYS.processes)
    clock.now_s += 0.9 * BEAT_S
    pulse.beat()
    assert not client.exists(KEYS.processes)
    clock.now_s += 0.1 * BEAT_S
    pulse.beat()
    (status,) = processes.alive()
    assert (status.pid, status.version, status.failing) == (os.getpid(), 5, False)
    assert status.host not in (os.uname().nodename, "")


def test_a_child_is_another_process(processes, limiter, clock):
    pulse = heartbeat(processes, limiter, clock)
    pulse.beat()
    child = os.fork()
    if child == 0:
        limiter.client.connection_pool.disconnect()
        pulse.beat()
        os._exit(0)
    os.waitpid(child, 0)
    assert {status.pid for status in processes.alive()} == {os.getpid(), child}
    pulse.leave()
    assert {status.pid for status in processes.alive()} == {child}


def local_share(limiter, quota=12) -> int:
    """How many of a quota this process would admit by itself."""
    targets = [(rule(quota=quota), A)]
    limiter._local._states.clear()
    return sum(limiter._local.decide(targets, "m")[0][0].allowed for _ in range(quota))


def test_quotas_are_divided_by_those_that_live_or_by_the_setting(processes, limiter, clock):
    pulse = heartbeat(processes, limiter, clock)
    assert local_share(limiter) == 6
    pulse.beat()
    assert local_share(limiter) == 6  # One lives, and the setting says two.
    for name in ("one", "two"):
        processes.beat(replace(ONE, process=name))
    clock.now_s += BEAT_S
    pulse.beat()
    assert local_share(limiter) == 4
    processes.leave("one")
    processes.leave("two")
    clock.now_s += BEAT_S
    pulse.beat()
    assert local_share(limiter) == 6


def test_the_last_known_number_holds_while_redis_is_away(clock):
    server = RedisProcess().start()
    limiter = make_limiter(server.url)
    processes = Processes(limiter.client, KEYS)
    pulse = heartbeat(processes, limiter, clock)
    processes.beat(replace(ONE, process="another"))
    pulse.beat()
    server.stop()
    for _ in range(10):
        clock.now_s += BEAT_S
        pulse.beat()
    assert local_share(limiter) == 6
    assert limiter.failures.by_kind == {Kind.CONNECTION: 10}
    assert limiter.failures.failing
    limiter.close()


def test_a_process_that_stops_while_redis_is_away_is_not_held_up(clock):
    limiter = away()
    pulse = heartbeat(Processes(limiter.client, KEYS), limiter, clock)
    pulse.beat()
    pulse.leave()
    assert limiter.failures.total == 2


def test_what_failed_and_what_was_decided_is_told(each_redis, processes, limiter, clock):
    clock.now_s = 1_000.0
    pulse = heartbeat(processes, limiter, clock)
    each_redis.pause()
    try:
        for _ in range(2):
            limiter.check([Target(rule(on_failure=FailurePolicy.ALLOW), A)])
    finally:
        each_redis.resume()
    pulse.beat()
    (status,) = processes.alive()
    assert status.failing
    assert status.failures == {"timeout": 2}
    assert status.decided == {"allow": 2}
    assert (status.outage.kind, status.outage.decided) == (Kind.TIMEOUT, 2)


SERVING = """
import sys, threading, time
from types import SimpleNamespace
from apps.ratelimits.storage.heartbeat import Heartbeat
from apps.ratelimits.storage.limiter import RateLimiter, Target
from apps.ratelimits.storage.processes import Processes
from apps.ratelimits.policy.rules import Algorithm, Rate, Rule

url, algorithm, quota = sys.argv[1], sys.argv[2], int(sys.argv[3])
config = SimpleNamespace(
    redis_url=url, key_prefix="iota:", identity_key=b"k" * 32, redis_timeout_ms=500,
    redis_max_connections=5, breaker_failures=5, breaker_open_ms=200, local_processes=1,
)
limiter = RateLimiter(config)
pulse = Heartbeat(Processes(limiter.client, limiter.keys), limiter, lambda: 1, host_key=b"k" * 32)
limit = Target(Rule(1, "one", Rate(Algorithm(algorithm), quota, 3_600_000_000, quota)), "a" * 20)

def beat():
    while True:
        pulse.beat()
        time.sleep(0.1)

threading.Thread(target=beat, daemon=True).start()
print("serving", flush=True)
for line in sys.stdin:
    print(sum(limiter.check([limit]).allowed for _ in range(int(line))), flush=True)
"""


class Serving:
    def __init__(self, url, algorithm, quota):
        command = [sys.executable, "-c", SERVING, url, algorithm, str(quota)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "serving\n"

    def ask(self, requests: int) -> int:
        """How many of them were let pass."""
        self.process.stdin.write(f"{requests}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def eventually(condition, within_s=10.0):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("algorithm", ["fixed_window", "token_bucket", "concurrency"])
def test_three_processes_whose_server_was_killed_admit_a_quota_together(algorithm):
    server = RedisProcess().start()
    serving = []
    try:
        client = server.client()
        processes = Processes(client, KEYS)
        serving = [Serving(server.url, algorithm, 10) for _ in range(3)]
        eventually(lambda: len(processes.alive()) == 3)
        time.sleep(1.5 * BEAT_S)  # Until each of them has heard of all.
        server.kill()
        assert [one.ask(10) for one in serving] == [3, 3, 3]
        assert [one.ask(10) for one in serving] == [0, 0, 0]
        client.close()
    finally:
        for one in serving:
            one.stop()
        server.stop()


def test_a_killed_process_is_missed_by_the_others():
    server = RedisProcess().start()
    serving = []
    try:
        with server.client() as client:
            processes = Processes(client, KEYS)
            serving = [Serving(server.url, "fixed_window", 10) for _ in range(2)]
            eventually(lambda: len(processes.alive()) == 2)
            serving.pop().stop()
            killed_s = time.monotonic()
            eventually(lambda: len(processes.alive()) == 1)
            assert time.monotonic() - killed_s < LOST_MS / 1000 + 2
    finally:
        for one in serving:
            one.stop()
        server.stop()


def test_processes_are_counted_on_a_cluster_too():
    cluster = ClusterProcesses("valkey", primaries=3, replicas=0).start()
    try:
        limiter = make_limiter(cluster.url)
        processes = Processes(limiter.client, KEYS)
        assert processes.beat(ONE) == 1
        assert processes.beat(replace(ONE, process="two")) == 2
        assert [status.process for status in processes.alive()] == ["one", "two"]
        processes.leave("two")
        assert [status.process for status in processes.alive()] == ["one"]
        limiter.close()
    finally:
        cluster.stop()
