"""The configuration: in a fresh process, validated, read by threads; and the ruleset's way."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

from django.conf import settings

from apps.ratelimits.policy.matching import compile_ruleset
from apps.ratelimits.policy.rules import Algorithm, PathKind, PathPattern, Rate, Rule, Ruleset
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.ruleset_store import RulesetStore
from iota.config import create_settings

from .. import rounds
from ..records import Direction
from ..registry import Run, Samples, benchmark
from . import ours
from .race import WrongAnswer
from .throughput import together

ROOT = Path(__file__).resolve().parents[3]
STARTS = 5
START_TIMEOUT_S = 60
NEEDED = {
    "SECRET_KEY": "s" * 50,
    "IOTA_IDENTITY_KEY": "i" * 50,
    "ALLOWED_HOSTS": "example.com,www.example.com",
    "REDIS_URL": "redis://127.0.0.1:6379/0",
}
MORE = {
    "CSRF_TRUSTED_ORIGINS": "https://example.com",
    "DATABASE_URL": "postgres://iota:secret@127.0.0.1/iota",
    "CELERY_BROKER_URL": "redis://127.0.0.1:6380/0",
    "IOTA_KEY_PREFIX": "site:",
    "IOTA_REDIS_TIMEOUT_MS": "40",
    "IOTA_REDIS_MAX_CONNECTIONS": "60",
    "IOTA_BREAKER_FAILURES": "4",
    "IOTA_BREAKER_OPEN_MS": "2000",
    "IOTA_RULESET_POLL_MS": "500",
    "IOTA_TRUSTED_PROXIES": "10.0.0.0/8,192.0.2.7/32,2001:db8::/32",
    "IOTA_IPV6_PREFIX": "56",
    "IOTA_EXEMPT_PATHS": "/static/,/media/",
    "IOTA_TIME_ZONE": "Europe/Berlin",
    "IOTA_LOG_LEVEL": "INFO",
    "IOTA_LOCAL_PROCESSES": "4",
    "IOTA_IDENTITY_BUDGET": "1000000",
}
INSTANCES = 50
READS = 1_000
READ_THREADS = (1, 8)
READ_SLOT_S = 0.2
LIMITS = 1_000
IMPORT = "the interpreter alone"
STEPS = {
    IMPORT: "pass",
    "create_settings": "from iota.config import create_settings; create_settings()",
    "django.setup": "import django; django.setup()",
}


@benchmark(
    "config-cold-start",
    suite="configuration",
    metric="time of a fresh process",
    unit="ms",
    direction=Direction.LOWER,
    sets=("quick", "full"),
)
def cold_start(run: Run) -> Samples:
    """From the start of Python to its end, with nothing of this process's memory."""
    environment = {
        "PATH": os.environ["PATH"],
        "DJANGO_SETTINGS_MODULE": "iota.settings",
        **NEEDED,
    }
    taken: dict[str, list[float]] = {}
    for turn in range(-1, min(run.rounds, STARTS)):
        for name, code in STEPS.items():
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", code],
                cwd=ROOT,
                env=environment,
                check=True,
                capture_output=True,
                timeout=START_TIMEOUT_S,
            )
            if turn >= 0:  # The first fills the system's cache of files.
                taken.setdefault(name, []).append((time.perf_counter() - started) * 1e3)
    return Samples({name: tuple(values) for name, values in taken.items()})


@benchmark(
    "config-validation",
    suite="configuration",
    metric="time per reading",
    unit="us",
    direction=Direction.LOWER,
    sets=("quick", "full"),
)
def validation(run: Run) -> Samples:
    """All variables of an environment, of which so many are set."""
    environments = [NEEDED, {**NEEDED, **MORE}]
    contestants = [
        rounds.Contestant(f"{len(one)} variables", create_settings, [one]) for one in environments
    ]
    return Samples(rounds.measure(contestants, run.rounds))


@benchmark(
    "config-reads",
    suite="configuration",
    metric="reads per second",
    unit="1/s",
    direction=Direction.HIGHER,
    sets=("quick", "full"),
)
def reads(run: Run) -> Samples:
    """Of a setting that exists, by so many threads at once."""

    def read(who: str) -> bool:
        for _ in range(READS):
            found = settings.IOTA_RATELIMITS.redis_url
        return bool(found)

    taken: dict[str, list[float]] = {}
    for turn in range(-1, run.rounds):
        for number in READ_THREADS if turn % 2 else reversed(READ_THREADS):
            found = READS * together(read, number, READ_SLOT_S)
            if turn >= 0:  # The first is the warm-up.
                taken.setdefault(f"{number} threads", []).append(found)
    return Samples({name: tuple(values) for name, values in taken.items()})


@benchmark(
    "config-memory",
    suite="configuration",
    metric="bytes per instance",
    unit="bytes",
    direction=Direction.LOWER,
    sets=("quick", "full"),
)
def memory(run: Run) -> Samples:
    """As Python allocates it; what instances share counts once, and so hardly."""
    taken = {}
    for one in (NEEDED, {**NEEDED, **MORE}):
        tracemalloc.start()
        try:
            create_settings(one)  # What is made once and kept is no instance's.
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            kept = [create_settings(one) for _ in range(INSTANCES)]
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        taken[f"{len(one)} variables"] = ((after - before) / len(kept),)
    return Samples(taken)


@benchmark(
    "ruleset",
    suite="configuration",
    metric="time per ruleset",
    unit="ms",
    direction=Direction.LOWER,
    parameters={"limits": LIMITS},
    sets=("quick", "full"),
)
def ruleset(run: Run) -> Samples:
    """What an edit costs: it is published once, and each process fetches and compiles it."""
    run.client.flushall()
    with ours.client(run) as client:
        store = RulesetStore(client, Keys(ours.config(run).key_prefix))
        steps: dict[str, Callable[[int], object]] = {
            "publish": lambda version: _published(store, version),
            "fetch": lambda version: store.fetch(),
            "compile": partial(_compile, _rules(1)),
        }
        taken: dict[str, list[float]] = {name: [] for name in steps}
        for version in range(1, run.rounds + 1):
            for name, step in steps.items():
                started = time.perf_counter()
                step(version)
                taken[name].append((time.perf_counter() - started) * 1e3)
    run.client.flushall()
    return Samples({name: tuple(values) for name, values in taken.items()})


def _published(store: RulesetStore, version: int) -> None:
    if not store.publish(_rules(version)):
        raise WrongAnswer(f"version {version} of the ruleset was not taken")


def _compile(found: Ruleset, version: int) -> None:
    compile_ruleset(found)


def _rules(version: int) -> Ruleset:
    """Few kinds of paths, as staff write them."""
    paths = [PathPattern(PathKind.PREFIX, f"/api/v1/part-{n}/") for n in range(LIMITS)]
    rate = Rate(Algorithm.TOKEN_BUCKET, 100, ours.DAY_US, burst=100)
    rules = [Rule(n, f"limit-{n}", rate, path=path) for n, path in enumerate(paths, 1)]
    return Ruleset(version, tuple(rules))
