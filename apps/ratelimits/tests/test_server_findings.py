"""What is said of a server, from facts that are written down here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apps.ratelimits.storage.server_facts import Scripts, ServerFacts
from apps.ratelimits.storage.server_findings import Finding, Level, judge, worst_first

GIB = 1 << 30
FINE = ServerFacts(
    "redis.internal:6379",
    round_trip_us=300,
    flavour="Valkey",
    version="9.1.2",
    speaks=(7, 2, 4),
    role="primary",
    replicas=1,
    clustered=False,
    maxmemory=2 * GIB,
    used_memory=GIB // 2,
    policy="noeviction",
    evicted=0,
    timeout_s=300,
    clients=12,
    maxclients=10_000,
    append_only=False,
    snapshots=False,
    scripts=Scripts.READY,
)


def found(**changes) -> dict[str, Finding]:
    findings = judge(replace(FINE, **changes), check_timeout_us=50_000)
    assert all(finding.where == FINE.address and finding.what for finding in findings)
    assert all(finding.evidence for finding in findings)
    assert all(finding.to_do for finding in findings if finding.level is not Level.INFO)
    codes = {finding.code: finding for finding in findings}
    assert len(codes) == len(findings)
    return codes


def test_a_server_as_the_shipped_file_has_it_is_fine():
    findings = found()
    assert {code: finding.level for code, finding in findings.items()} == {
        "eviction": Level.INFO,
        "server": Level.INFO,
    }
    assert findings["server"].what == "Valkey 9.1.2, primary with 1 replicas."
    assert "no append-only file, no snapshots; 512.0 MiB in use" in findings["server"].evidence


@pytest.mark.parametrize(
    ("changes", "code", "level"),
    [
        ({"speaks": (6, 0, 16), "version": "6.0.16"}, "version", Level.ERROR),
        ({"role": "replica"}, "replica", Level.ERROR),
        ({"scripts": Scripts.REFUSED, "scripts_error": "no"}, "scripts", Level.ERROR),
        ({"maxmemory": 0}, "no-maxmemory", Level.WARNING),
        ({"used_memory": 2 * GIB}, "memory-full", Level.ERROR),
        ({"used_memory": int(1.9 * GIB)}, "memory-full", Level.WARNING),
        ({"used_memory": 2 * GIB, "policy": "volatile-ttl"}, "memory-full", Level.WARNING),
        ({"policy": "allkeys-lru"}, "eviction", Level.WARNING),
        ({"policy": "allkeys-random"}, "eviction", Level.WARNING),
        ({"policy": "volatile-lru"}, "eviction", Level.WARNING),
        ({"policy": "volatile-ttl"}, "eviction", Level.WARNING),
        ({"timeout_s": 5}, "timeout", Level.WARNING),
        ({"clients": 9_000}, "clients", Level.WARNING),
        ({"round_trip_us": 30_000}, "slow", Level.WARNING),
        ({"round_trip_us": 80_000}, "slow", Level.ERROR),
        ({"policy": None}, "unknown", Level.UNKNOWN),
        ({"maxmemory": None}, "unknown", Level.UNKNOWN),
        ({"timeout_s": None}, "unknown", Level.UNKNOWN),
        ({"speaks": None}, "unknown", Level.UNKNOWN),
        ({"scripts": Scripts.UNKNOWN}, "unknown", Level.UNKNOWN),
    ],
)
def test_what_is_wrong_is_said_with_its_level(changes, code, level):
    findings = found(**changes)
    assert findings[code].level is level
    assert set(findings) - {"server", "eviction"} == {code} - {"eviction"}


@pytest.mark.parametrize(
    "changes",
    [
        {"timeout_s": 0},
        {"speaks": (6, 2, 0)},
        {"role": "replica", "clustered": True},
        {"scripts": Scripts.NOT_LOADED},
        {"round_trip_us": 25_000},
        {"used_memory": int(1.7 * GIB)},
        {"maxmemory": 0, "policy": "allkeys-lru", "used_memory": 9 * GIB},
    ],
)
def test_what_is_fine_is_not_complained_of(changes):
    codes = {"eviction", "server"} if changes.get("maxmemory") != 0 else {"no-maxmemory", "server"}
    assert set(found(**changes)) == codes


def test_eviction_is_told_with_what_it_deleted_and_whom_it_spares():
    assert (
        "keys deleted so far: 1,234"
        in found(policy="allkeys-lru", evicted=1_234)["eviction"].evidence
    )
    assert "not known" in found(policy="allkeys-lru", evicted=None)["eviction"].evidence
    assert "protects none" in found(policy="volatile-lru")["eviction"].evidence
    assert "end soonest" in found(policy="volatile-ttl")["eviction"].evidence


def test_a_server_that_does_not_answer_is_one_finding():
    findings = judge(ServerFacts("a:1", error="TimeoutError: 1 s"), check_timeout_us=50_000)
    assert [(one.level, one.code, one.evidence) for one in findings] == [
        (Level.ERROR, "unreachable", "TimeoutError: 1 s")
    ]


def test_nothing_known_is_not_fine():
    (finding,) = judge(
        ServerFacts("a:1", round_trip_us=100, refused=("INFO: no", "CONFIG GET timeout: no")),
        check_timeout_us=50_000,
    )
    assert finding.level is Level.UNKNOWN
    assert (
        "version, role, maxmemory, maxmemory-policy, timeout, whether scripts run" in finding.what
    )
    assert finding.evidence == "INFO: no; CONFIG GET timeout: no"
    assert "IOTA_REDIS_OPERATOR_URL" in finding.to_do


def test_the_worst_comes_first():
    levels = [Level.INFO, Level.UNKNOWN, Level.ERROR, Level.WARNING, Level.ERROR]
    findings = [Finding(level, str(at), "", "", "") for at, level in enumerate(levels)]
    assert [one.code for one in worst_first(findings)] == ["2", "4", "3", "1", "0"]
