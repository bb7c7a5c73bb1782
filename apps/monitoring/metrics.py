"""What is sampled, by name: of what, in which unit, and what it takes to mean something.

Pure: the collectors write these names, the alert rules, the charts and the exporter read them.
A value that could not be learned is unknown, and never fine; a name that does not apply to
a source is absent from its samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a source of samples is."""

    NODE = "node"
    """A server of the counters, or one node of their cluster."""
    BROKER = "broker"
    """Celery's queues."""
    LIMITER = "limiter"
    """The limiter over all processes that serve: one source."""


class Unit(StrEnum):
    COUNT = "count"
    PER_S = "per_s"
    PERCENT = "percent"
    BYTES = "bytes"
    US = "us"
    S = "s"


@dataclass(frozen=True, slots=True)
class Metric:
    """``evidence`` names the metric that says of how many events a value is made: one of too few
    means nothing (a p99 of three checks)."""

    name: str
    label: str
    unit: Unit
    kinds: frozenset[Kind]
    evidence: str = ""


def _metric(name: str, label: str, unit: Unit, *kinds: Kind, evidence: str = "") -> Metric:
    return Metric(name, label, unit, frozenset(kinds), evidence)


METRICS = {
    metric.name: metric
    for metric in (
        # Of any source, and in no sample: how long it has answered nothing, by ``Source`` itself.
        _metric("silent_s", "Time without an answer", Unit.S, *Kind),
        # One server. Rates are since the sample before, of the same run of the server.
        _metric("round_trip_us", "Round trip", Unit.US, Kind.NODE),
        _metric("cpu_percent", "CPU of the main thread", Unit.PERCENT, Kind.NODE),
        _metric("memory_bytes", "Memory used", Unit.BYTES, Kind.NODE),
        _metric("memory_percent", "Memory used of its bound", Unit.PERCENT, Kind.NODE),
        _metric("evicted_per_s", "Keys evicted", Unit.PER_S, Kind.NODE),
        _metric("expired_per_s", "Keys expired", Unit.PER_S, Kind.NODE),
        _metric("ops_per_s", "Commands", Unit.PER_S, Kind.NODE),
        _metric("command_us", "Time in the server per script call", Unit.US, Kind.NODE),
        _metric("keys", "Keys", Unit.COUNT, Kind.NODE),
        _metric("clients", "Connections", Unit.COUNT, Kind.NODE),
        _metric("clients_percent", "Connections of maxclients", Unit.PERCENT, Kind.NODE),
        _metric("replication_lag_s", "Replication lag", Unit.S, Kind.NODE),
        _metric("replicas_lost", "Replicas missing or not online", Unit.COUNT, Kind.NODE),
        _metric("slow_per_s", "Slow commands", Unit.PER_S, Kind.NODE),
        _metric("pong_age_s", "Oldest answer of another node", Unit.S, Kind.NODE),
        _metric("links_lost", "Links to other nodes that are down", Unit.COUNT, Kind.NODE),
        _metric("link_bytes", "Waiting to be sent to other nodes", Unit.BYTES, Kind.NODE),
        _metric("command_p99_us", "Time in the server per script call, p99", Unit.US, Kind.NODE),
        _metric("latency_event_us", "Worst event of its latency monitor", Unit.US, Kind.NODE),
        _metric("output_bytes", "Waiting to be sent to clients", Unit.BYTES, Kind.NODE),
        _metric("rejected_per_s", "Connections refused at maxclients", Unit.PER_S, Kind.NODE),
        # The limiter, all processes together.
        _metric("requests_per_s", "Requests", Unit.PER_S, Kind.LIMITER),
        _metric("requests", "Requests in the interval", Unit.COUNT, Kind.LIMITER),
        _metric("error_percent", "Errors (5xx)", Unit.PERCENT, Kind.LIMITER, evidence="requests"),
        _metric("checks", "Checks in the interval", Unit.COUNT, Kind.LIMITER),
        _metric("check_p50_us", "Check, p50", Unit.US, Kind.LIMITER, evidence="checks"),
        _metric("check_p99_us", "Check, p99", Unit.US, Kind.LIMITER, evidence="checks"),
        _metric("allowed_per_s", "Allowed", Unit.PER_S, Kind.LIMITER),
        _metric("denied_per_s", "Denied", Unit.PER_S, Kind.LIMITER),
        _metric("degraded_per_s", "Decided without Redis", Unit.PER_S, Kind.LIMITER),
        _metric("processes", "Processes that serve", Unit.COUNT, Kind.LIMITER),
        _metric("processes_failing", "Processes without Redis", Unit.COUNT, Kind.LIMITER),
        _metric("config_load_us", "Loading the configuration", Unit.US, Kind.LIMITER),
        _metric("pool_in_use", "Connections to Redis in use", Unit.COUNT, Kind.LIMITER),
        _metric("pool_waits_per_s", "Waits for a connection", Unit.PER_S, Kind.LIMITER),
        # Requests in flight or waiting over all processes; Celery's messages over all queues.
        _metric("queue_length", "Queue", Unit.COUNT, Kind.LIMITER, Kind.BROKER),
        _metric("unacked", "Taken by a worker, not done", Unit.COUNT, Kind.BROKER),
    )
}
