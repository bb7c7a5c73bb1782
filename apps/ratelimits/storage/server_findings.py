"""What is wrong with a server of the counters, told from its facts alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from .server_facts import Scripts, ServerFacts

MINIMUM_VERSION = (6, 2)
"""LPOP with a count and XRANGE from behind an entry came with it. Every Valkey has both."""

NEARLY_FULL = 0.9
MANY_CLIENTS = 0.8
SHORT_TIMEOUT_S = 60
GUIDE = "docs/guides/redis-servers.md"


class Level(StrEnum):
    """The worst first."""

    ERROR = "error"
    WARNING = "warning"
    UNKNOWN = "unknown"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """``code`` names the kind of finding and stays; the texts may change."""

    level: Level
    code: str
    where: str
    what: str
    evidence: str
    to_do: str = ""


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """By level; within one, as they were found."""
    order = list(Level)
    return sorted(findings, key=lambda finding: order.index(finding.level))


def judge(facts: ServerFacts, *, check_timeout_us: int) -> list[Finding]:
    """The findings about one server. ``check_timeout_us``: how long a check waits for it."""
    if facts.error:
        return [
            Finding(
                Level.ERROR,
                "unreachable",
                facts.address,
                "The server does not answer: each limit does what it says under "
                "'when Redis fails'.",
                facts.error,
                "Start it, or mend REDIS_URL, the password or the network.",
            )
        ]
    found: list[Finding] = []
    for judged in (_serving, _version, _memory, _policy, _connections, _unknown, _summary):
        found += judged(facts)
    return worst_first([*found, *_speed(facts, check_timeout_us)])


def _serving(facts: ServerFacts) -> Iterator[Finding]:
    if facts.role == "replica" and not facts.clustered:
        yield Finding(
            Level.ERROR,
            "replica",
            facts.address,
            "This is a replica: it refuses every check.",
            "INFO: role slave",
            "Name the primary in REDIS_URL, or its Sentinels.",
        )
    if facts.scripts is Scripts.REFUSED:
        yield Finding(
            Level.ERROR,
            "scripts",
            facts.address,
            "Scripts are refused: no check can run.",
            f"EVALSHA: {facts.scripts_error}",
            f"Let the site's user run EVAL and EVALSHA (deploy/redis/users.acl, {GUIDE}).",
        )


def _version(facts: ServerFacts) -> Iterator[Finding]:
    if facts.speaks is not None and facts.speaks < MINIMUM_VERSION:
        least = ".".join(map(str, MINIMUM_VERSION))
        yield Finding(
            Level.ERROR,
            "version",
            facts.address,
            f"The server is too old: the scripts need Redis {least} or Valkey.",
            f"{facts.flavour} {facts.version}",
            f"Update it to Redis {least} or newer, or any Valkey.",
        )


def _memory(facts: ServerFacts) -> Iterator[Finding]:
    used, most = facts.used_memory, facts.maxmemory
    if most == 0:
        yield Finding(
            Level.WARNING,
            "no-maxmemory",
            facts.address,
            "Its memory has no limit: it grows until the system ends it, and all counts with it.",
            f"maxmemory 0, {_bytes(used)} in use",
            f"Set maxmemory to what the machine can spare ({GUIDE}).",
        )
    elif used is not None and most is not None and used > NEARLY_FULL * most:
        full = used >= most and facts.policy == "noeviction"
        yield Finding(
            Level.ERROR if full else Level.WARNING,
            "memory-full",
            facts.address,
            "Its memory is full: checks are refused." if full else "Its memory is nearly full.",
            f"{_bytes(used)} of {_bytes(most)} in use ({100 * used // most} %)",
            "Raise maxmemory, or find what fills it: a large cache, or a limit that counts by "
            "something that clients can make up.",
        )


_EVICTS = {
    "allkeys": "also the ruleset, which is then rebuilt from the database",
    "volatile": "every counter has a time to live, so this protects none",
    "volatile-ttl": "those that end soonest go first, so each loses the least",
}


def _policy(facts: ServerFacts) -> Iterator[Finding]:
    policy = facts.policy
    if policy is None or not facts.maxmemory:
        return
    limit = f"maxmemory-policy {policy}, maxmemory {_bytes(facts.maxmemory)}"
    if policy == "noeviction":
        yield Finding(
            Level.INFO,
            "eviction",
            facts.address,
            "Full memory makes it refuse writes: no counter is lost, and each limit does what it "
            "says under 'when Redis fails'.",
            limit,
        )
        return
    why = _EVICTS.get(policy) or _EVICTS.get(policy.partition("-")[0], "")
    evicted = "not known" if facts.evicted is None else f"{facts.evicted:,}"
    yield Finding(
        Level.WARNING,
        "eviction",
        facts.address,
        "Full memory makes it delete live counters: their clients start anew, and limits admit "
        "more than they say.",
        f"{limit}; keys deleted so far: {evicted}; {why}",
        f"Set maxmemory-policy noeviction, or keep it knowingly ({GUIDE}).",
    )


def _connections(facts: ServerFacts) -> Iterator[Finding]:
    if facts.timeout_s and facts.timeout_s < SHORT_TIMEOUT_S:
        yield Finding(
            Level.WARNING,
            "timeout",
            facts.address,
            "It closes idle connections so soon that quiet sites connect anew for each request. "
            "No request fails for that.",
            f"timeout {facts.timeout_s}",
            "Set timeout to 0, or to 300 as deploy/redis/single.conf does.",
        )
    if facts.clients and facts.maxclients and facts.clients > MANY_CLIENTS * facts.maxclients:
        yield Finding(
            Level.WARNING,
            "clients",
            facts.address,
            "It has nearly as many connections as it takes.",
            f"{facts.clients:,} of maxclients {facts.maxclients:,}",
            "Raise maxclients and the open files of its process, or lower "
            "IOTA_REDIS_MAX_CONNECTIONS.",
        )


def _speed(facts: ServerFacts, check_timeout_us: int) -> Iterator[Finding]:
    trip_us = facts.round_trip_us
    if trip_us is None or trip_us * 2 <= check_timeout_us:
        return
    late = trip_us > check_timeout_us
    yield Finding(
        Level.ERROR if late else Level.WARNING,
        "slow",
        facts.address,
        "It answers later than a check waits: limits do what they say under 'when Redis fails'."
        if late
        else "It answers nearly as late as a check waits.",
        f"the best of a few PINGs took {trip_us / 1000:.1f} ms; IOTA_REDIS_TIMEOUT_MS is "
        f"{check_timeout_us / 1000:.0f}",
        "Bring it nearer, find what holds it up (SLOWLOG GET, LATENCY LATEST), or raise "
        "IOTA_REDIS_TIMEOUT_MS.",
    )


def _unknown(facts: ServerFacts) -> Iterator[Finding]:
    missing = [
        name
        for name, value in (
            ("version", facts.speaks),
            ("role", facts.role),
            ("maxmemory", facts.maxmemory),
            ("maxmemory-policy", facts.policy),
            ("timeout", facts.timeout_s),
        )
        if value is None
    ]
    if facts.scripts is Scripts.UNKNOWN:
        missing.append("whether scripts run")
    if missing:
        refused = "; ".join(filter(None, (*facts.refused, facts.scripts_error)))
        yield Finding(
            Level.UNKNOWN,
            "unknown",
            facts.address,
            f"Not known, and so perhaps wrong: {', '.join(missing)}.",
            refused or "the server does not say",
            "Name a user who may read INFO and CONFIG GET in IOTA_REDIS_OPERATOR_URL "
            "(iota-operator in deploy/redis/users.acl); of a managed service, look it up in its "
            "console.",
        )


def _summary(facts: ServerFacts) -> Iterator[Finding]:
    if facts.version is None:
        return
    kind = "node of a cluster, " if facts.clustered else ""
    replicas = f" with {facts.replicas} replicas" if facts.role == "primary" else ""
    kept = {True: "an append-only file", False: "no append-only file", None: "not known"}
    snapshots = {True: "snapshots", False: "no snapshots", None: "snapshots not known"}
    trip_ms = (facts.round_trip_us or 0) / 1000
    yield Finding(
        Level.INFO,
        "server",
        facts.address,
        f"{facts.flavour} {facts.version}, {kind}{facts.role or 'role unknown'}{replicas}.",
        f"on disk: {kept[facts.append_only]}, {snapshots[facts.snapshots]}; "
        f"{_bytes(facts.used_memory)} in use; a PING takes {trip_ms:.1f} ms",
    )


def _bytes(count: int | None) -> str:
    if count is None:
        return "an unknown amount"
    amount, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{count} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
