"""What is made of two looks: pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.monitoring.collecting import commands, info, limiter, replicas
from apps.monitoring.collecting.cluster import of_links, of_nodes
from apps.monitoring.collecting.rates import ANEW, FIRST, Counted, quantile, since
from apps.ratelimits.storage.usage import CHECK_BOUNDS_US, Usage

BUCKETS = len(CHECK_BOUNDS_US) + 1


def usage(*, slow: int = 0, fast: int = 0, **totals: int) -> Counted:
    checks = [0] * BUCKETS
    checks[0], checks[14] = fast, slow  # at most 50 us; from 7,500 to 10,000 us
    made = limiter.of_usage(Usage(7.0, checks=tuple(checks), **totals))
    return Counted("7.0", 1_000.0, made.counters)


def later(counted: Counted, seconds: float = 10.0, run: str = "7.0") -> Counted:
    return Counted(run, counted.clock_s + seconds, counted.counters)


def test_the_limiters_figures_are_of_the_interval():
    before = usage(requests=1_000, errors=10, allowed=900, denied=100, fast=1_000)
    after = usage(requests=1_200, errors=14, allowed=1_000, denied=200, fast=1_098, slow=2)
    made = since(before, later(after))
    assert made.unknown == {}
    assert made.values == {
        "requests": 200,
        "checks": 100,
        "requests_per_s": 20.0,
        "allowed_per_s": 10.0,
        "denied_per_s": 10.0,
        "degraded_per_s": 0.0,
        "pool_waits_per_s": 0.0,
        "error_percent": 2.0,
        "check_p50_us": pytest.approx(50 * 50 / 98),
        "check_p99_us": pytest.approx(7_500 + 2_500 / 2),
    }


def test_of_nothing_there_is_no_share_and_no_quantile():
    made = since(usage(), later(usage()))
    assert made.values["requests_per_s"] == 0
    # Not unknown: there is none.
    for name in ("error_percent", "check_p50_us", "check_p99_us"):
        assert name not in {**made.values, **made.unknown}


def test_a_redis_that_lost_what_was_counted_begins_anew():
    made = since(usage(requests=10_000), later(usage(requests=5), run="8.0"))
    assert set(made.values.values()) == {None}
    assert set(made.unknown.values()) == {FIRST}


@pytest.mark.parametrize("seconds", [0.0, -5.0, 61.0])
def test_a_time_that_is_no_interval_makes_no_rate(seconds):
    """The clock stepped back, or nobody looked for so long that a mean would say nothing."""
    made = since(usage(), later(usage(requests=600), seconds))
    assert made.unknown["requests_per_s"] == FIRST


@given(
    st.dictionaries(
        st.sampled_from(["commands", "cpu_s", "scripts", "script_us"]), st.floats(0, 1e9)
    ),
    st.dictionaries(
        st.sampled_from(["commands", "cpu_s", "scripts", "script_us"]), st.floats(0, 1e9)
    ),
    st.floats(-100, 100),
)
def test_no_rate_is_ever_negative_and_none_is_unknown_without_a_reason(before, after, took_s):
    made = since(Counted("a", 100.0, before), Counted("a", 100.0 + took_s, after))
    assert all(value is None or value >= 0 for value in made.values.values())
    nothing = {name for name, value in made.values.items() if value is None}
    assert nothing == set(made.unknown)


@given(st.lists(st.integers(0, 1_000), min_size=BUCKETS, max_size=BUCKETS), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_where_it_is(counts, part):
    found = quantile(CHECK_BOUNDS_US, counts, part)
    if not sum(counts):
        assert found is None
        return
    below = sum(
        number
        for bound, number in zip(CHECK_BOUNDS_US, counts, strict=False)
        if bound < found * (1 - 1e-9)
    )
    assert below <= part * sum(counts) * (1 + 1e-9)
    assert 0 <= found <= CHECK_BOUNDS_US[-1]


def script(counts: dict[int, int], clock_s: float = 0.0) -> Counted:
    reply = {b"evalsha": {b"calls": 9, b"histogram_usec": counts}}
    counters = commands.of_histogram(reply).counters
    return Counted("a", clock_s, {**counters, "scripts": 1.0, "script_us": 1.0})


def test_the_servers_histogram_names_a_bound_only_once_it_is_needed():
    before = script({16: 100, 33: 1_000})
    after = script({8: 1, 16: 101, 33: 1_001, 66: 1_001, 4_194: 1_011}, 10.0)
    made = since(before, after).values["command_p99_us"]
    assert 66 < made <= 4_194
    assert since(before, script({33: 5}, 10.0)).unknown["command_p99_us"] == ANEW
    assert "command_p99_us" not in since(before, script({}, 10.0)).values


@pytest.mark.parametrize("reply", [[b"evalsha", [b"calls", 1, b"histogram_usec", [33, 1]]], []])
def test_the_histogram_is_read_in_either_protocol(reply):
    found = commands.of_histogram(reply).counters
    assert found == ({"scripts_le_33": 1.0} if reply else {})


def slow(clock_s: float, newest: int | None, kept: int) -> Counted:
    entries = [] if newest is None else [{"id": newest}]
    return Counted("a", clock_s, commands.of_slowlog(entries, kept).counters)


def test_the_slow_log_may_be_emptied():
    assert since(slow(0, 7, 8), slow(10, 27, 28)).values["slow_per_s"] == 2.0
    assert since(slow(0, 7, 8), slow(10, None, 0)).values["slow_per_s"] == 0.0
    assert since(slow(0, None, 0), slow(10, 57, 5)).values["slow_per_s"] == 0.5


def test_a_replica_that_is_missing_lags_by_as_long_as_it_has_been_missing():
    said, kept = replicas.missed({}, {"a": True, "b": True}, 1.0, 100.0)
    assert said.values == {"replicas_lost": 0}
    said, kept = replicas.missed(kept, {"a": True}, 0.0, 130.0)
    assert said.values == {"replicas_lost": 1, "replication_lag_s": 30.0}
    said, kept = replicas.missed(kept, {}, None, 140.0)
    assert said.values == {"replicas_lost": 2, "replication_lag_s": 40.0}
    # Others in their place, at other addresses, are as good.
    said, kept = replicas.missed(kept, {"c": True, "d": True}, 0.0, 150.0)
    assert said.values == {"replicas_lost": 0}
    # One that is not online is none, and after a day fewer are taken to be meant.
    said, kept = replicas.missed(kept, {"c": True, "d": True, "e": False}, 0.0, 160.0)
    assert said.values == {"replicas_lost": 1, "replication_lag_s": 10.0}
    said, kept = replicas.missed(kept, {"c": True}, 0.0, 150.0 + replicas.REMEMBERED_S + 1)
    assert said.values == {"replicas_lost": 0}


def test_what_never_had_a_replica_lacks_none():
    assert replicas.missed({}, {}, None, 1.0)[0].values == {}
    assert replicas.missed({"most": 2, "whole_at_s": 0.0}, None, None, 1.0) == (
        replicas.Said(),
        {},
    )


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ({"used_active_time_main_thread": 3.0, "used_cpu_user_main_thread": 9.0}, 3.0),
        ({"used_cpu_user_main_thread": 4.0, "used_cpu_sys_main_thread": 1.0}, 5.0),
        ({"used_cpu_user": 4.0, "used_cpu_sys": 2.0}, 6.0),
    ],
)
def test_cpu_is_of_the_main_thread_as_far_as_the_server_tells_it(told, seconds):
    assert info.said_of(told).counters["cpu_s"] == seconds


def test_what_info_does_not_say_is_unknown():
    said = info.said_of({})
    assert {name for name, value in said.values.items() if value is None} >= {
        "cpu_percent",
        "memory_percent",
        "clients_percent",
        "ops_per_s",
        "replication_lag_s",
    }
    assert set(said.unknown.values()) == {"INFO does not say it"}


def test_a_silence_within_the_ping_period_is_no_lag():
    replica = {"role": "slave", "master_link_status": "up"}
    for silent_s, lag_s in [(0, 0), (10, 0), (25, 15)]:
        told = info.said_of({**replica, "master_last_io_seconds_ago": silent_s})
        assert told.values["replication_lag_s"] == lag_s
    never = {"role": "slave", "master_link_status": "down", "uptime_in_seconds": 70}
    told = info.said_of({**never, "master_link_down_since_seconds": -1})
    assert told.values["replication_lag_s"] == 70


def test_memory_is_measured_as_the_server_decides_that_it_is_full():
    told = info.said_of({"used_memory": 900, "maxmemory": 1_000, "mem_not_counted_for_evict": 100})
    assert told.values["memory_percent"] == 80


def test_nodes_that_are_not_met_yet_have_no_pong():
    node = {"flags": "master", "last_pong_rcvd": "90000", "connected": True}
    nodes = {
        "a:1": {**node, "flags": "myself,master", "last_pong_rcvd": "0"},
        "b:1": node,
        "c:1": {**node, "flags": "slave,fail", "last_pong_rcvd": "40000", "connected": False},
        ":0": {**node, "flags": "noaddr,master", "connected": False},
    }
    said = of_nodes(nodes, 100.0)
    assert said.values == {"links_lost": 1, "pong_age_s": 60.0}
    assert said.notes == {"pong_age_s": "of c:1"}
    assert of_links([{b"send-buffer-used": 5}, [b"send-buffer-used", 6]]).values == {
        "link_bytes": 11
    }


def test_processes_add_up_and_the_slowest_counts():
    class Status:
        def __init__(self, in_flight, load, failing=False):
            self.in_flight, self.config_load_us, self.failing = in_flight, load, failing
            self.pool_in_use = 1

    said = limiter.of_processes([Status(3, 100), Status(4, 900, True)])
    assert said.values == {
        "processes": 2,
        "processes_failing": 1,
        "queue_length": 7,
        "pool_in_use": 2,
        "config_load_us": 900,
    }
    assert limiter.of_processes([]).values["queue_length"] == 0
    assert limiter.of_processes([]).unknown == {"config_load_us": "no process serves"}
