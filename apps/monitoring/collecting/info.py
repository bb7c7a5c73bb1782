"""INFO -> figures. Pure: what INFO does not say is unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .taken import Said

METRICS = (
    "cpu_percent", "memory_bytes", "memory_percent", "evicted_per_s", "expired_per_s",
    "ops_per_s", "keys", "clients", "clients_percent", "rejected_per_s",
)  # fmt: skip
UNSAID = "INFO does not say it"
PING_PERIOD_S = 10
"""A primary with nothing to say pings its replicas so often: silence until then is no lag."""


def said_of(info: Mapping[str, Any]) -> Said:
    return _cpu(info) | _memory(info) | _clients(info) | _replication(info) | _rest(info)


def server(info: Mapping[str, Any]) -> str:
    """``Valkey 9.1.2``."""
    version = info.get("valkey_version") or info.get("redis_version")
    flavour = str(info.get("server_name") or "redis").title()
    return f"{flavour} {version}"[:40] if version else ""


def role(info: Mapping[str, Any]) -> str:
    return {"master": "primary", "slave": "replica"}.get(str(info.get("role")), "")


def clock_s(info: Mapping[str, Any]) -> float:
    """The server's; 0.0 where it does not tell it."""
    return float(info.get("server_time_usec", 0)) / 1_000_000


def replicas(info: Mapping[str, Any]) -> dict[str, bool] | None:
    """Of a primary, by address: whether each is online."""
    if role(info) != "primary":
        return None
    return {f"{one['ip']}:{one['port']}": one["state"] == "online" for one in _replicas(info)}


def _cpu(info: Mapping[str, Any]) -> Said:
    """Commands run on one thread: what it is busy for, of the time, is what can run out."""
    active = info.get("used_active_time_main_thread")
    if active is not None:
        return _cpu_said(active, "time that its main thread was at work")
    user, system = info.get("used_cpu_user_main_thread"), info.get("used_cpu_sys_main_thread")
    if user is not None and system is not None:
        return _cpu_said(user + system, "CPU time of its main thread")
    user, system = info.get("used_cpu_user"), info.get("used_cpu_sys")
    if user is not None and system is not None:
        return _cpu_said(user + system, "CPU time of all its threads: it tells none apart")
    return Said.nothing(["cpu_percent"], UNSAID)


def _cpu_said(seconds: Any, what: str) -> Said:
    return Said(counters={"cpu_s": float(seconds)}, notes={"cpu_percent": what})


def _memory(info: Mapping[str, Any]) -> Said:
    used, bound = info.get("used_memory"), info.get("maxmemory")
    if used is None:
        return Said.nothing(["memory_bytes", "memory_percent"], UNSAID)
    values: dict[str, float | None] = {"memory_bytes": float(used)}
    if bound:
        # As the server itself decides whether it is full.
        counted = used - info.get("mem_not_counted_for_evict", 0)
        note = f"of maxmemory, {_gib(bound)}, policy {info.get('maxmemory_policy', 'unknown')}"
        return Said({**values, "memory_percent": 100 * counted / bound}, notes=_of_memory(note))
    machine = info.get("total_system_memory")
    if bound is None or not machine:
        return Said(values) | Said.nothing(["memory_percent"], UNSAID)
    resident = max(used, info.get("used_memory_rss", 0))
    note = f"of the machine's {_gib(machine)}: maxmemory is not set"
    return Said({**values, "memory_percent": 100 * resident / machine}, notes=_of_memory(note))


def _of_memory(note: str) -> dict[str, str]:
    return {"memory_percent": note}


def _gib(size: float) -> str:
    return f"{size / 2**30:,.3g} GiB" if size >= 2**30 else f"{size / 2**20:,.3g} MiB"


def _clients(info: Mapping[str, Any]) -> Said:
    """What counts against maxclients: INFO's clients are without replicas and cluster links."""
    clients, most = info.get("connected_clients"), info.get("maxclients")
    if clients is None:
        return Said.nothing(["clients", "clients_percent"], UNSAID)
    replicas = int(info.get("connected_slaves", 0))
    links = int(info.get("cluster_connections", 0))
    whole = clients + replicas + links
    note = f"{clients:,} clients"
    note += f", {replicas:,} replicas" if replicas else ""
    note += f", {links:,} links of the cluster" if links else ""
    if not most:
        return Said({"clients": float(whole)}, notes={"clients": note}) | Said.nothing(
            ["clients_percent"], UNSAID
        )
    note += f"; maxclients {most:,}"
    return Said(
        {"clients": float(whole), "clients_percent": 100 * whole / most}, notes={"clients": note}
    )


def _replication(info: Mapping[str, Any]) -> Said:
    if role(info) == "replica":
        return _of_replica(info)
    if role(info) != "primary":
        return Said.nothing(["replication_lag_s"], UNSAID)
    attached = _replicas(info)
    if not attached:
        return Said()
    lags = [float(one["lag"]) for one in attached if one["state"] == "online"]
    offset = int(info.get("master_repl_offset", 0))
    shown = [
        f"{one['ip']}:{one['port']} {one['state']}, "
        f"{max(0, offset - int(one.get('offset', 0))):,} bytes behind"
        for one in attached
    ]
    notes = {"replication_lag_s": "; ".join(shown)[:500]}
    if not lags:
        said = Said.nothing(["replication_lag_s"], "no replica is online")
    else:
        said = Said({"replication_lag_s": max(lags)})
    return said | Said(notes=notes)


def _of_replica(info: Mapping[str, Any]) -> Said:
    """How long ago it last was as its primary is; of one that never was, since it started."""
    primary = f"of {info.get('master_host')}:{info.get('master_port')}"
    if info.get("master_link_status") == "up":
        silent_s = int(info.get("master_last_io_seconds_ago", 0))
        lag_s = float(max(0, silent_s - PING_PERIOD_S))
        note = f"{primary}, heard {silent_s} s ago"
    else:
        down_s = int(info.get("master_link_down_since_seconds", -1))
        lag_s = float(down_s if down_s >= 0 else info.get("uptime_in_seconds", 0))
        note = f"{primary}, to which the link is down"
    return Said({"replication_lag_s": lag_s}, notes={"replication_lag_s": note})


def _replicas(info: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = [value for name, value in info.items() if re.fullmatch(r"slave\d+", name)]
    return [one for one in found if isinstance(one, Mapping) and {"ip", "port", "state"} <= {*one}]


def _rest(info: Mapping[str, Any]) -> Said:
    counters, unknown = {}, []
    for metric, counter, name in (
        ("ops_per_s", "commands", "total_commands_processed"),
        ("evicted_per_s", "evicted", "evicted_keys"),
        ("expired_per_s", "expired", "expired_keys"),
        ("rejected_per_s", "rejected", "rejected_connections"),
    ):
        if name in info:
            counters[counter] = float(info[name])
        else:
            unknown.append(metric)
    keys = sum(
        int(value.get("keys", 0))
        for name, value in info.items()
        if re.fullmatch(r"db\d+", name) and isinstance(value, Mapping)
    )
    return Said({"keys": float(keys)}, counters) | Said.nothing(unknown, UNSAID)
