"""What so many requests a second need, worked out from a recorded run of the benchmarks.

Pure: the page's tables are made of ``docs/overview/scaling.json`` (``manage.py benchmark targets
--json``) and of what is assumed here, and nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .markdown import table

FILE = Path(__file__).resolve().parents[2] / "docs" / "overview" / "scaling.json"

LOADS = (1_000, 10_000, 100_000, 1_000_000)
"""Requests a second."""
LIMITS = 3
"""That match each request, on one identity."""
BUSY = 0.5
"""The most that a server's thread or a web process is to be busy, so that a peak, a failover or a
deployment fits in."""
LEASE = 100
LEASED_SHARE = 0.9
"""Of the requests, in the column where busy clients are served from units taken ahead."""
TRIES_AT_ONCE = 2
"""Connections that a process keeps to a node: as many as checks of its threads go on at once."""
POLLS_PER_S = 4
SENDS_PER_S = 4
"""Of each process, beside its checks: the limits' version (`IOTA_RULESET_POLL_MS`); that it lives,
what it counted, whom it denied, and what it served."""
PEOPLE = (1_000_000, 10_000_000, 100_000_000)
"""Identities whose buckets live at the same time."""
GIB = 2**30
QUIET = 3.0
"""Load average that the benchmarks themselves come to, at most."""
SPARE_MEMORY = 2.0
"""Times what is counted: the last window's buckets beside this one's, a table that is being
resized, buffers."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Medians. ``*_us`` and ``*_bytes`` of a check or an identity, by number of limits."""

    date: str
    commit: str
    about: Mapping[str, str]
    load_average: float | None
    server_cpu_us: Mapping[int, float]
    script_us: Mapping[int, float]
    wire_in_bytes: Mapping[int, float]
    wire_out_bytes: Mapping[int, float]
    identity_bytes: Mapping[int, float]
    check_us: float
    denied_us: float
    leased_us: float
    stock_per_s: float
    stock_without_per_s: float
    """The same site without the limiter."""
    compile_s: float


def read(text: str | None = None) -> Measured:
    """Raises KeyError where the run lacks a row: record it with all that ``ROWS`` names."""
    found: dict[str, Any] = json.loads(FILE.read_text() if text is None else text)
    medians = {
        (one["parameters"]["benchmark"], one["parameters"]["contestant"]): float(one["p50"])
        for one in found["results"]
    }

    def by_limits(benchmark: str, name: str) -> dict[int, float]:
        return {limits: medians[benchmark, name.format(limits)] for limits in (1, 3, 10)}

    return Measured(
        date=found["date"],
        commit=found["commit"],
        about=found["machine"],
        load_average=found["load_average"],
        server_cpu_us=by_limits("server-cpu", "{}"),
        script_us=by_limits("server-time", "iota, {}"),
        wire_in_bytes=by_limits("wire-bytes", "{}, in"),
        wire_out_bytes=by_limits("wire-bytes", "{}, out"),
        identity_bytes=by_limits("memory", "token_bucket, {}"),
        check_us=medians["three-limits", "iota"],
        denied_us=medians["denied", "iota"],
        leased_us=medians["leased", "iota"],
        stock_per_s=medians["http-stock-sync", "iota"],
        stock_without_per_s=medians["http-stock-sync", "no limiter"],
        compile_s=medians["compile", "iota"],
    )


ROWS = (
    "three-limits",
    "server-time",
    "denied",
    "leased",
    "compile",
    "memory",
    "http-stock-sync",
    "wire-bytes",
    "server-cpu",
)
"""Of the benchmarks, what ``read`` reads."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a load needs."""

    requests_per_s: int
    trips_per_s: float
    server_cores: float
    """That checks keep busy, in all."""
    primaries: int
    in_mbit_s: float
    out_mbit_s: float
    web_processes: int
    web_processes_without: int
    """That the site would need without a limiter."""
    connections_per_node: int
    background_per_s: int
    """Calls of all processes beside checks."""


def size(measured: Measured, requests_per_s: int, *, leased_share: float = 0.0) -> Size:
    trips = requests_per_s * (1 - leased_share + leased_share / LEASE)
    processes = math.ceil(requests_per_s / (measured.stock_per_s * BUSY))
    background = processes * (POLLS_PER_S + SENDS_PER_S)
    cores = trips * measured.server_cpu_us[LIMITS] / 1e6
    return Size(
        requests_per_s=requests_per_s,
        trips_per_s=trips,
        server_cores=cores,
        primaries=math.ceil(cores / BUSY),
        in_mbit_s=trips * measured.wire_in_bytes[LIMITS] * 8 / 1e6,
        out_mbit_s=trips * measured.wire_out_bytes[LIMITS] * 8 / 1e6,
        web_processes=processes,
        web_processes_without=math.ceil(requests_per_s / (measured.stock_without_per_s * BUSY)),
        connections_per_node=processes * TRIES_AT_ONCE,
        background_per_s=background,
    )


def ceiling_per_s(measured: Measured, limits: int) -> float:
    """Checks a second at which one node's thread does nothing else."""
    return 1e6 / measured.server_cpu_us[limits]


def sizes_table() -> str:
    measured = read()
    plain = [size(measured, load) for load in LOADS]
    leased = [size(measured, load, leased_share=LEASED_SHARE) for load in LOADS]
    lines: Sequence[tuple[str, Sequence[Size], Callable[[Size], str]]] = (
        ("trips to Redis, per second", plain, lambda one: f"{one.trips_per_s:,.0f}"),
        ("cores that checks keep busy there", plain, lambda one: f"{one.server_cores:,.2f}"),
        ("**primaries, half busy**", plain, lambda one: f"**{one.primaries:,}**"),
        ("to them, Mbit/s", plain, lambda one: f"{one.in_mbit_s:,.0f}"),
        ("from them, Mbit/s", plain, lambda one: f"{one.out_mbit_s:,.0f}"),
        ("trips, with leases", leased, lambda one: f"{one.trips_per_s:,.0f}"),
        ("**primaries, with leases**", leased, lambda one: f"**{one.primaries:,}**"),
        ("**web processes, half busy**", plain, lambda one: f"**{one.web_processes:,}**"),
        ("without the limiter they were", plain, lambda one: f"{one.web_processes_without:,}"),
        ("connections to each primary", plain, lambda one: f"{one.connections_per_node:,}"),
        ("calls beside checks, per second", plain, lambda one: f"{one.background_per_s:,}"),
    )
    header = ("requests per second", *(f"{load:,}" for load in LOADS))
    rows = [(title, *map(shown, found)) for title, found, shown in lines]
    return table(header, rows, right=len(LOADS))


def memory_table() -> str:
    measured = read()
    header = ("identities at the same time", *(f"{limits} limits" for limits in (1, 3, 10)))
    rows = [
        (f"{people:,}", *(_gib(people * measured.identity_bytes[n]) for n in (1, 3, 10)))
        for people in PEOPLE
    ]
    return table((header[0], "1 limit", *header[2:]), rows, right=3)


def _gib(counted_bytes: float) -> str:
    return f"{counted_bytes / GIB:,.1f} GiB, give it {counted_bytes * SPARE_MEMORY / GIB:,.1f}"


def inputs_table() -> str:
    measured = read()
    by_limits = (
        ("processor time of the server's thread, us", measured.server_cpu_us, 1),
        ("of that, the script alone, us", measured.script_us, 1),
        (
            "so one node, fully busy, decides per second",
            {limits: ceiling_per_s(measured, limits) for limits in (1, 3, 10)},
            0,
        ),
        ("bytes sent to the server", measured.wire_in_bytes, 0),
        ("bytes sent back", measured.wire_out_bytes, 0),
        ("bytes that an identity takes in memory", measured.identity_bytes, 0),
    )
    single = (
        ("a check of 3 limits, for which its caller waits, on the same core", measured.check_us),
        ("a denial that the process remembers, without a trip", measured.denied_us),
        (f"a check served from {LEASE} units taken ahead, trips included", measured.leased_us),
    )
    others = (
        ("a web process behind Django's stock middleware, 2 limits", measured.stock_per_s),
        ("the same without the limiter", measured.stock_without_per_s),
    )
    rows = [(said, f"{value:,.2f} us") for said, value in single]
    rows += [(said, f"{value:,.0f} requests/s") for said, value in others]
    compiled = f"{measured.compile_s:,.2f} s"
    rows.append(("compiling 10,000 limits, in the background, after an edit", compiled))
    of_a_check = table(
        ("of a check", "1 limit", "3 limits", "10 limits"),
        [
            (said, *(f"{values[limits]:,.{digits}f}" for limits in (1, 3, 10)))
            for said, values, digits in by_limits
        ],
        right=3,
    )
    return f"{_recorded(measured)}\n\n{of_a_check}\n" + table(
        ("beside it", "measured"), rows, right=1
    )


def _recorded(measured: Measured) -> str:
    about = measured.about
    busy = measured.load_average is not None and measured.load_average > QUIET
    return (
        f"Recorded {measured.date} at {measured.commit[:7]}: {about['machine']}, Python "
        f"{about['python']}, Valkey {about['valkey-server']}; medians of {about['rounds']} rounds."
        + (
            f" **The machine had other work meanwhile** (load average {measured.load_average:g}): "
            "times are too long, and sizes too large."
            if busy
            else ""
        )
    )
