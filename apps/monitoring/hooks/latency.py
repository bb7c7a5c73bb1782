"""Why Redis is slow: the way to it, or itself."""

from __future__ import annotations

import contextlib
import socket
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from apps.ratelimits.storage.server_findings import Finding, Level

from ..look import Budget, Look, Node, NotSaid, each_node
from ..registry import Topic, finding

PINGS = 40
PAUSE_S = 0.005
WATCH_S, WATCH_ALL_S = 0.8, 2.4
"""At most, of each server and of all nodes of a cluster."""
HANDSHAKES = 3
HANDSHAKE_TIMEOUT_S = 0.5
STALL_WATCH_S = 0.03
LONG_US = 5_000
"""Half of what the shipped alert allows a check at its slowest hundredth."""
BUSY = 0.5
FEW_CALLS = 20
SERVER_CURE = (
    "See its slow log (`manage.py doctor --only slow-commands`) and what else uses it; give the "
    "counters a server of their own, or a faster core."
)
NETWORK_CURE = (
    "Bring the server nearer (the same host or zone), and look at what stands between: a proxy, "
    "TLS, a busy machine on either side."
)
SUBJECT = "whether the network or the server takes the time of a check"


@dataclass(frozen=True, slots=True)
class Trips:
    """What one server was measured at, us.

    ``pings`` are round trips. ``handshake_us`` is a TCP handshake, which the system of the host at
    the other end answers, however busy Redis is; ``near``: that host is this one; both None where
    it cannot be measured. ``busy`` is the share of the time for which the main thread ran.
    ``script_us``: what a script takes inside the server, on average; ``script_p99_us`` since it
    started. ``stall_us``: for how long this process itself was held up at most.
    """

    pings: tuple[int, ...]
    handshake_us: int | None = None
    near: bool | None = None
    busy: float | None = None
    script_us: float | None = None
    script_p99_us: float | None = None
    stall_us: int = 0

    @property
    def median_us(self) -> float:
        return statistics.median(self.pings)

    @property
    def check_us(self) -> float:
        """What a check waits for: a trip, and the script."""
        return self.median_us + (self.script_us or 0)

    @property
    def server_us(self) -> float:
        """Of ``check_us``: the script, and where the server is busy, the wait for its turn."""
        waits_us = 0.0
        if self.busy is not None and self.busy >= BUSY:
            waits_us = self.median_us - (self.handshake_us or min(self.pings))
        return max(0.0, waits_us) + (self.script_us or 0)


@finding("latency", Topic.REDIS, "Network against server time", limit_s=4)
def latency(look: Look) -> Iterator[Finding]:
    yield from each_node(
        look, SUBJECT, lambda node: judge(measure(look, node), node.address, _known(look, node))
    )


def _known(look: Look, node: Node) -> str:
    """Why the server's part is not known; empty where it is."""
    try:
        look.info(node)
    except NotSaid as error:
        return str(error)
    return ""


def measure(look: Look, node: Node) -> Trips:
    """Raises NotSaid where the server does not answer."""
    _ping(look, node)  # connects
    before, began_s = _counters(look, node), time.monotonic()
    budget = Budget(min(WATCH_S, WATCH_ALL_S / len(look.nodes)))
    pings: list[int] = []
    while len(pings) < PINGS and not (budget.spent and pings):
        pings.append(_ping(look, node))
        time.sleep(PAUSE_S)
    after, took_s = _counters(look, node), time.monotonic() - began_s
    handshake_us, near = _handshake(node)
    return Trips(
        tuple(pings),
        handshake_us,
        near,
        _busy(before, after, took_s),
        _script_us(before, after),
        after.get("latency_percentiles_usec_evalsha", {}).get("p99"),
        _stall_us(),
    )


def _ping(look: Look, node: Node) -> int:
    """As the site: who may not, gets an answer too."""
    before_ns = time.perf_counter_ns()
    try:
        look.ask(node, "PING", as_site=True)
    except NotSaid as error:
        if "NoPermissionError" not in str(error):
            raise
    return (time.perf_counter_ns() - before_ns) // 1_000


def _counters(look: Look, node: Node) -> Mapping[str, Any]:
    try:
        return look.info(node, fresh=True)
    except NotSaid:
        return {}


def _busy(before: Mapping[str, Any], after: Mapping[str, Any], took_s: float) -> float | None:
    """Of the main thread, where the server tells it apart."""
    for names in (
        ("used_active_time_main_thread",),
        ("used_cpu_user_main_thread", "used_cpu_sys_main_thread"),
        ("used_cpu_user", "used_cpu_sys"),
    ):
        if all(name in before and name in after for name in names):
            used_s = sum(float(after[name]) - float(before[name]) for name in names)
            return min(1.0, max(0.0, used_s / took_s))
    return None


def _script_us(before: Mapping[str, Any], after: Mapping[str, Any]) -> float | None:
    """While it was watched, where there were enough calls; else since the server started."""
    calls, used_us = _scripts(after)
    earlier_calls, earlier_us = _scripts(before)
    if calls - earlier_calls >= FEW_CALLS:
        return (used_us - earlier_us) / (calls - earlier_calls)
    return used_us / calls if calls else None


def _scripts(info: Mapping[str, Any]) -> tuple[int, float]:
    stats = info.get("cmdstat_evalsha", {})
    return int(stats.get("calls", 0)), float(stats.get("usec", 0))


def _handshake(node: Node) -> tuple[int | None, bool | None]:
    """The best of a few, us, and whether it led to this host."""
    options = node.site.connection_pool.connection_kwargs
    if options.get("path"):
        return None, True
    best_us, near = None, None
    for _ in range(HANDSHAKES):
        before_ns = time.perf_counter_ns()
        with contextlib.suppress(OSError):
            address = (options["host"], options.get("port", 6379)) if "host" in options else None
            if address is None:  # by Sentinel, who was asked for each connection
                break
            with socket.create_connection(address, timeout=HANDSHAKE_TIMEOUT_S) as made:
                took_us = (time.perf_counter_ns() - before_ns) // 1_000
                best_us = took_us if best_us is None else min(best_us, took_us)
                near = made.getpeername()[0] == made.getsockname()[0]
    return best_us, near


def _stall_us() -> int:
    """A busy machine holds up whoever measures on it, and requests as well."""
    worst_ns, last_ns = 0, time.perf_counter_ns()
    end_ns = last_ns + int(STALL_WATCH_S * 1e9)
    while last_ns < end_ns:
        now_ns = time.perf_counter_ns()
        worst_ns, last_ns = max(worst_ns, now_ns - last_ns), now_ns
    return worst_ns // 1_000


def judge(trips: Trips, where: str, unsaid: str = "") -> Iterator[Finding]:
    """``unsaid``: why the server's own part is not known."""
    if unsaid:
        yield Finding(
            Level.UNKNOWN,
            "latency-unknown",
            where,
            "How long a trip takes is known, but not which part of it is the server's.",
            f"{_evidence(trips)}; {unsaid}",
            "Name a user who may read INFO in IOTA_REDIS_OPERATOR_URL.",
        )
        return
    slow = trips.check_us > LONG_US
    server = trips.server_us > trips.check_us / 2
    part = f"{max(trips.server_us, 0) / 1000:.2f} of {trips.check_us / 1000:.2f} ms"
    yield Finding(
        Level.WARNING if slow else Level.INFO,
        "latency-server" if server else "latency-network",
        where,
        _what(trips) if server else "The way to the server takes most of a check's time.",
        f"the server's part is {part}; {_evidence(trips)}",
        (SERVER_CURE if server else NETWORK_CURE) if slow else "",
    )


def _what(trips: Trips) -> str:
    if trips.busy is not None and trips.busy >= BUSY:
        return "The server takes most of a check's time: it is busy, and checks wait their turn."
    return "The server takes most of a check's time, in its scripts."


def _evidence(trips: Trips) -> str:
    ms = [number / 1000 for number in (min(trips.pings), trips.median_us, max(trips.pings))]
    said = [
        f"PING took {ms[0]:.2f} ms at best, {ms[1]:.2f} at the median, {ms[2]:.2f} at worst of "
        f"{len(trips.pings)}"
    ]
    if trips.handshake_us is not None:
        said.append(f"a TCP handshake {trips.handshake_us / 1000:.2f} ms")
    if trips.near is not None:
        said.append("on this host" if trips.near else "on another host")
    if trips.busy is not None:
        said.append(f"busy {100 * trips.busy:.0f} % of the time")
    if trips.script_us is not None:
        p99 = f" (p99 {trips.script_p99_us:,.0f})" if trips.script_p99_us is not None else ""
        said.append(f"a script takes {trips.script_us:,.0f} us in the server{p99}")
    said.append(f"this process was held up for {trips.stall_us / 1000:.2f} ms at most")
    return ", ".join(said)
