"""Commands that held the server up: its slow log, its latency events, and who is blocked in it.

Arguments may hold anything, so none is shown: only a command's name, and which script of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from apps.ratelimits.storage import scripts
from apps.ratelimits.storage.server_findings import Finding, Level

from ..amounts import counted
from ..look import Look, Node, each_node
from ..registry import Topic, finding

MOST_ENTRIES = 256
DAY_S = 86_400
OFF_US = -1
EVENT_MS = 10
SUBJECT = "which commands held the server up"


@dataclass(frozen=True, slots=True)
class Slow:
    """An entry of the slow log. ``script``: which of ours it is, if it is one."""

    command: str
    took_us: int
    age_s: int
    ours: bool
    script: str = ""

    def __str__(self) -> str:
        what = f"{self.command} ({self.script})" if self.script else self.command
        return f"{what} {self.took_us / 1000:,.1f} ms, {_age(self.age_s)} ago"


@finding("slow-commands", Topic.REDIS, "Slow log and latency events")
def slow_commands(look: Look) -> Iterator[Finding]:
    yield from each_node(look, SUBJECT, lambda node: _of_node(look, node))


def _of_node(look: Look, node: Node) -> Iterator[Finding]:
    now_s = int(look.ask(node, "TIME")[0])
    threshold_us = int(look.config_of(node, "slowlog-log-slower-than") or 0)
    if threshold_us == OFF_US:
        yield Finding(
            Level.UNKNOWN,
            "slow-log-off",
            node.address,
            "The server keeps no slow log: what holds it up cannot be told.",
            "slowlog-log-slower-than -1",
            "`CONFIG SET slowlog-log-slower-than 1000`, as deploy/redis/single.conf does.",
        )
    else:
        raw = look.ask(node, "SLOWLOG GET", MOST_ENTRIES)
        rows = [_read(row, now_s, look.config.key_prefix) for row in raw]
        yield judge([row for row in rows if row.age_s < DAY_S], node.address, threshold_us)
    monitor_ms = int(look.config_of(node, "latency-monitor-threshold") or 0)
    yield from _events(look.ask(node, "LATENCY LATEST"), now_s, monitor_ms, node.address)
    yield from _blocked(look.info(node), node.address)


def _read(row: dict[str, Any], now_s: int, prefix: str) -> Slow:
    command = row["command"]
    words: list[bytes] = command.split(b" ") if isinstance(command, bytes) else [b""]
    name = words[0].decode("ascii", "replace").upper()[:20]
    sha = words[1].decode("ascii", "replace").lower() if len(words) > 1 else ""
    script = next((known for known in scripts.PARTS if scripts.load(known).sha == sha), "")
    ours = bool(script) or prefix.encode() in command
    return Slow(name, int(row["duration"]), max(0, now_s - int(row["start_time"])), ours, script)


def judge(rows: Sequence[Slow], where: str, threshold_us: int) -> Finding:
    """``rows``: of the last day."""
    over = f"over {threshold_us / 1000:g} ms (slowlog-log-slower-than)"
    if not rows:
        return Finding(
            Level.INFO,
            "slow-log",
            where,
            "No command of the last day was slow.",
            f"nothing in the slow log {over}",
        )
    ours = [row for row in rows if row.ours]
    worst = max(rows, key=lambda row: row.took_us)
    said = [f"{counted(len(rows), 'command')} in a day {over}"]
    said[0] += f", {len(ours):,} of them on the limiter's keys"
    said.append(f"the worst: {worst}")
    if ours and worst not in ours:
        said.append(f"the limiter's worst: {max(ours, key=lambda row: row.took_us)}")
    to_do = "Find who sends them: every check waits behind them. Give the counters a server apart."
    if len(ours) == len(rows):
        to_do = (
            "Look at the limits that keep an exact log or slots (sliding_log, concurrency) with "
            "large quotas, and at whether the machine of the server is busy."
        )
    return Finding(
        Level.WARNING,
        "slow-log",
        where,
        "Commands held the server up, and every check that came meanwhile.",
        "; ".join(said),
        to_do,
    )


def _events(events: Sequence[Any], now_s: int, threshold_ms: int, where: str) -> Iterator[Finding]:
    if not threshold_ms:
        yield Finding(
            Level.INFO,
            "latency-monitor-off",
            where,
            "The server does not note what made it slow (expiry, eviction, a fork, the disk).",
            "latency-monitor-threshold 0",
            f"`CONFIG SET latency-monitor-threshold {EVENT_MS}`",
        )
        return
    recent = [
        f"{name.decode(errors='replace')[:30]} {worst_ms:,} ms at worst, the last "
        f"{latest_ms:,} ms, {_age(max(0, now_s - at_s))} ago"
        for name, at_s, latest_ms, worst_ms, *_ in events
        if now_s - at_s < DAY_S
    ]
    if recent:
        yield Finding(
            Level.WARNING,
            "latency-events",
            where,
            "By its own account the server was held up in the last day.",
            f"LATENCY LATEST over {threshold_ms} ms: {'; '.join(recent)}",
            "`LATENCY DOCTOR` at the server explains each event: `command` is in the slow log; "
            "`fork` and `aof-*` come from writing to disk, which counters do not need "
            "(deploy/redis/single.conf).",
        )


def _blocked(info: dict[str, Any], where: str) -> Iterator[Finding]:
    if blocked := int(info.get("blocked_clients", 0)):
        yield Finding(
            Level.INFO,
            "blocked-clients",
            where,
            "Clients wait in blocking commands there, as Celery's workers do for messages.",
            f"{blocked:,} blocked of {info.get('connected_clients', 0):,} connections",
            "In production give Celery a broker of its own (CELERY_BROKER_URL).",
        )


def _age(seconds: int) -> str:
    for unit, size in (("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
