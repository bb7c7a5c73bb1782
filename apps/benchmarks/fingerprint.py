"""Where a run takes place: what of the machine does not change, and how fast it is just now.

Runs are compared only where all the stable fields are equal, so no field may change by itself:
no clock speed, no free memory, no patch level.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import redis

from . import statistics
from .servers import Server

Field = str | int

GIB = 2**30
LOOP_STEPS = 20_000
LOOPS = 25
PINGS = 300
CPUINFO = Path("/proc/cpuinfo")
MODEL_FIELDS = ("model name", "Model", "CPU part")
"""Of x86, of small ARM boards, of ARM servers; the first that is there."""


@dataclass(frozen=True, slots=True)
class Readings:
    """How fast the machine was before the run began: what differs here is not the code's doing."""

    loop_us: float
    ping_us: float
    load_average: float | None


def fields(server: Server, client: redis.Redis) -> dict[str, Field]:
    """The stable ones, with the server that the run measures on."""
    return {
        **of_this_machine(),
        "server": f"{_flavour(client)} {server.version}",
        "topology": "one node, same core" if hasattr(os, "sched_getaffinity") else "one node",
    }


def of_this_machine() -> dict[str, Field]:
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count() or 0,
        "memory_gib": memory_gib(),
        "os": system(),
        "kernel": two_numbers(platform.release()),
        "python": two_numbers(platform.python_version()),
    }


def digest(fields: Mapping[str, object]) -> str:
    """Equal for equal fields, in whatever order: 32 hexadecimal digits."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def readings(client: redis.Redis) -> Readings:
    return Readings(loop_us(), ping_us(client), load_average())


def loop_us() -> float:
    """The median time of a fixed loop of arithmetic."""
    took = []
    for _ in range(LOOPS):
        started = time.perf_counter()
        total = 0
        for number in range(LOOP_STEPS):
            total += number * number & 0xFF
        took.append(time.perf_counter() - started)
    return statistics.median(took) * 1e6


def ping_us(client: redis.Redis) -> float:
    """The median time of a PING of the run's own server."""
    took = []
    for _ in range(PINGS):
        started = time.perf_counter()
        client.ping()
        took.append(time.perf_counter() - started)
    return statistics.median(took) * 1e6


def load_average() -> float | None:
    """Of the last minute; None where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def cpu_model(cpuinfo: Path = CPUINFO) -> str:
    """Without the clock speed that some write into the name."""
    return without_clock(_from_cpuinfo(cpuinfo) or _from_sysctl() or platform.machine())


def without_clock(name: str) -> str:
    return " ".join(re.sub(r"(?i)@?\s*\d+(\.\d+)?\s*[GM]Hz", "", name).split())


def _from_cpuinfo(path: Path) -> str:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return ""
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    model = next((found[name] for name in MODEL_FIELDS if found.get(name)), "")
    # "0xd0c" says nothing without whose part it is.
    return f"{platform.machine()} part {model}" if model.startswith("0x") else model


def _from_sysctl() -> str:
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def memory_gib() -> int:
    """Rounded: the kernel keeps another part of it for itself with each of its versions."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB)
    except (ValueError, OSError):
        return 0


def system() -> str:
    """Such as "debian 12"."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return platform.system()
    return f"{release['ID']} {release.get('VERSION_ID', '')}".strip()


def two_numbers(version: str) -> str:
    """``6.1`` of ``6.1.0-18-amd64``: what a security update does not change."""
    match = re.match(r"\d+\.\d+", version)
    return match.group() if match else version


def _flavour(client: redis.Redis) -> str:
    return "valkey" if "valkey_version" in client.info("server") else "redis"
