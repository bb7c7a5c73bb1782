"""Each contestant does the work that it is timed at."""

from __future__ import annotations

import sys

import pytest

from apps.benchmarks import cores, rounds
from apps.benchmarks.registry import Run
from apps.benchmarks.servers import Server
from apps.benchmarks.site import choice, views
from apps.benchmarks.suites import (
    checks,
    http,
    load_of_a_check,
    matching,
    peers,
    remembered,
    stored,
)
from apps.benchmarks.suites.race import NotInstalled, WrongAnswer, race, verify


@pytest.fixture
def run(redis_server, redis_client, monkeypatch):
    monkeypatch.setattr(rounds, "ROUND_S", 0.001)
    monkeypatch.setattr(rounds, "WARM_UP_S", 0.001)
    monkeypatch.setattr(checks, "MANY", 300)
    usable = cores.usable() or [None]
    return Run(Server(redis_server.url, "test"), redis_client, 1, usable[0], usable[-1])


@pytest.mark.parametrize("limits", [1, 3])
@pytest.mark.parametrize("name", peers.NAMES)
def test_every_peer_limits(run, name, limits):
    with peers.settings_of_peers(run.server.url):
        verify(name, peers.makers(run.server.url)[name], limits)


def test_a_peer_that_is_missing_says_so(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "throttled", None)
    with pytest.raises(NotInstalled, match=r"not installed .*throttled.* requirements-dev.txt"):
        peers.makers(run.server.url)[peers.THROTTLED]([3])


def test_what_does_not_limit_is_not_timed(run):
    found = race(run, {"careless": lambda quotas: lambda identity: True}, limits=1)
    assert (found.taken, found.absent) == ({}, {"careless": "careless: a quota of 3 did not hold"})


def test_what_denies_while_it_is_timed_was_not_measured(run):
    def forgetful(quotas):
        left = dict.fromkeys(["verified"], 3) if quotas[0] == 3 else {}

        def check(identity):
            left[identity] = left.get(identity, 1) - 1
            return left[identity] >= 0

        return check

    with pytest.raises(WrongAnswer, match="forgetful: denied while timed"):
        race(run, {"forgetful": forgetful}, limits=1)


@pytest.mark.parametrize(
    ("measured", "contestants"),
    [
        (checks.one_limit, {"iota", "floor", checks.STRANGERS}),
        (checks.three_limits, {"iota", "floor"}),
        (checks.fixed_window, {"iota", *peers.NAMES}),
        (checks.ten_limits, {"iota", "floor", *peers.NAMES, peers.SMART_BATCH}),
        (remembered.denied, {"iota", *peers.NAMES}),
        (remembered.leased, {"iota", *peers.NAMES}),
        (matching.matching, {"iota", matching.ALONE}),
    ],
)
def test_all_that_should_take_part_do(run, measured, contestants):
    found = measured(run)
    assert found.absent == {}
    assert set(found.taken) == contestants
    assert all(len(samples) == 1 and samples[0] > 0 for samples in found.taken.values())


def test_the_server_says_what_the_scripts_cost_it(run):
    found = checks.server_time(run)
    assert set(found.taken) == {f"{who}, {n}" for who in ("iota", "limits") for n in (1, 3, 10)}


def test_memory_is_measured_for_each_number_of_limits(run, monkeypatch):
    monkeypatch.setattr(stored, "IDENTITIES", 10 * stored.BATCH)
    monkeypatch.setattr(stored, "SETTLE_S", 0.02)
    found = stored.memory(run)
    assert found.absent == {}
    assert len(found.taken) == 9
    assert found.taken["token_bucket, 10"] > found.taken["token_bucket, 1"]


SITES = [
    *((name, False) for name in ["iota", choice.NO_LIMITER, *views.SYNC]),
    *((name, True) for name in ["iota", choice.NO_LIMITER, *views.ASYNC]),
]


@pytest.mark.parametrize(("limiter", "is_async"), SITES)
def test_every_limiter_limits_its_site(run, limiter, is_async):
    peers_url = run.server.url.removesuffix("/0") + "/1"
    http.publish(run)
    with http.served(run, choice.Choice(limiter, False, is_async, peers_url)) as site:
        http.verify(site)


def test_requests_are_counted_behind_the_stock_middleware(run):
    found = http.stock_sync(run)
    assert (set(found.taken), found.absent) == ({"iota", choice.NO_LIMITER}, {})


def test_what_a_check_takes_of_the_wire_and_of_the_server(run, monkeypatch):
    wire = load_of_a_check.wire_bytes(run).taken
    assert set(wire) == {f"{limits}, {way}" for limits in (1, 3, 10) for way in ("in", "out")}
    # A digest of 22 characters and the plan of each limit; 8 bytes of reply for each.
    assert 100 < wire["1, in"][0] < wire["3, in"][0] < wire["10, in"][0] < 1_000
    # A mean over checks, of which the first few are answered at more length.
    assert wire["10, out"][0] - wire["3, out"][0] > 7 * 8 - 1
    monkeypatch.setattr(load_of_a_check, "CHECKS", 500)
    cpu = load_of_a_check.server_cpu(run).taken
    assert set(cpu) == {"1", "3", "10"}
    assert all(1 < us < 2_000 for (us,) in cpu.values())
    assert run.client.dbsize() == 0
