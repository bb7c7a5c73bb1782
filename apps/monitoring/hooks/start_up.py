"""How long a process takes to start, measured in a fresh one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from apps.ratelimits.storage.server_findings import Finding, Level

from ..amounts import in_time
from ..look import Look, unknown
from ..registry import Topic, finding

WAIT_S = 6.0
LONG_S = 5.0
TOP = 5
SUBJECT = "how long a process takes to start"
WHERE = "a fresh process"
CODE = """
import json, time
a = time.perf_counter()
from iota.config import create_settings
b = time.perf_counter()
create_settings()
c = time.perf_counter()
import django
django.setup()
d = time.perf_counter()
from django.urls import get_resolver
get_resolver().url_patterns
e = time.perf_counter()
print(json.dumps({"variables": c - b, "setup": d - a, "urls": e - d}))
"""
LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| +([\w.]+)")


@finding("start-up", Topic.CONFIGURATION, "Start of a process", limit_s=WAIT_S + 1)
def start_up(look: Look) -> Iterator[Finding]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-X", "importtime", "-c", CODE]
    try:
        ran = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        yield Finding(
            Level.WARNING,
            "start-up-slow",
            WHERE,
            "A process takes very long to start.",
            f"it had not started after {WAIT_S:g} s, with its imports timed",
            "See whether the machine is busy, and its disk slow.",
        )
        return
    if ran.returncode:
        *_, last = ran.stderr.strip().splitlines() or [""]
        # What it says may quote a value: its kind is enough.
        why = f"it ended with {ran.returncode}: {last.split(':')[0][:60]}"
        yield unknown(SUBJECT, WHERE, why, "See `manage.py check`.")
        return
    yield judge(json.loads(ran.stdout.splitlines()[-1]), packages(ran.stderr))


def packages(said: str) -> Counter[str]:
    """By package, what its own modules took to import, us, from ``-X importtime``."""
    found: Counter[str] = Counter()
    for line in said.splitlines():
        if match := LINE.match(line):
            found[match[2].split(".")[0]] += int(match[1])
    return found


def judge(measured: Mapping[str, Any], imports: Counter[str]) -> Finding:
    total_s = measured["setup"] + measured["urls"]
    slow = total_s > LONG_S
    largest = ", ".join(f"{name} {in_time(us / 1e6)}" for name, us in imports.most_common(TOP))
    return Finding(
        Level.WARNING if slow else Level.INFO,
        "start-up-slow" if slow else "start-up",
        WHERE,
        "A process takes long to start." if slow else "A process starts in time.",
        f"imports and django.setup() {in_time(measured['setup'])}, its URLs "
        f"{in_time(measured['urls'])} (with imports timed, which slows them); variables alone "
        f"{in_time(measured['variables'])}; the largest imports: {largest}",
        "See whether the machine is busy; leave out apps that the site does not need."
        if slow
        else "",
    )
