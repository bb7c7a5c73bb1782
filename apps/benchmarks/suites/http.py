"""Requests per second under granian, with and without a limiter."""

from __future__ import annotations

import http.client
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import redis

from apps.ratelimits.policy.rules import Algorithm, PathKind, PathPattern, Rate, Rule, Ruleset
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.ruleset_store import RulesetStore

from .. import cores, load
from ..records import Direction
from ..registry import Run, Samples, benchmark
from ..servers import HOST, ServerFailed, dying_with_us, free_port, stop
from ..site import choice, views
from ..site.choice import NO_LIMITER, Choice
from ..targets import FASTEST_PEER, OURS, Sense, Target
from . import ours, peers
from .race import NotInstalled, WrongAnswer

ROOT = Path(__file__).resolve().parents[3]
START_TIMEOUT_S = 30.0
SLOT_S = 1
SHARE_OF_ROUNDS = 3
"""A slot is long: a round here for so many elsewhere."""
DENIED = (403, 429)


@dataclass(frozen=True, slots=True)
class Site:
    """A running server of the site."""

    choice: Choice
    port: int

    def status(self, path: str) -> int:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=START_TIMEOUT_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()


def targets(kind: str) -> tuple[Target, ...]:
    return (
        Target(f"bare view, {kind}, 2 limits", NO_LIMITER, Sense.AT_LEAST, 0.30),
        Target(f"bare view, {kind}, 2 limits each", FASTEST_PEER, Sense.AT_LEAST, 1.3),
    )


@benchmark(
    "http-stock-sync",
    suite="http",
    metric="requests per second",
    unit="requests/s",
    direction=Direction.HIGHER,
    parameters={"limits": 2, "interface": "wsgi", "connections": load.CONNECTIONS},
    targets=(Target("stock middleware, sync, 2 limits", NO_LIMITER, Sense.AT_LEAST, 0.80),),
)
def stock_sync(run: Run) -> Samples:
    return _requests_per_s(run, [NO_LIMITER, OURS], stock=True, is_async=False)


@benchmark(
    "http-stock-async",
    suite="http",
    metric="requests per second",
    unit="requests/s",
    direction=Direction.HIGHER,
    parameters={"limits": 2, "interface": "asgi", "connections": load.CONNECTIONS},
    targets=(Target("stock middleware, async, 2 limits", NO_LIMITER, Sense.AT_LEAST, 0.80),),
)
def stock_async(run: Run) -> Samples:
    return _requests_per_s(run, [NO_LIMITER, OURS], stock=True, is_async=True)


@benchmark(
    "http-bare-sync",
    suite="http",
    metric="requests per second",
    unit="requests/s",
    direction=Direction.HIGHER,
    parameters={"limits": 2, "interface": "wsgi", "connections": load.CONNECTIONS},
    targets=targets("sync"),
    peers=tuple(views.SYNC),
)
def bare_sync(run: Run) -> Samples:
    return _requests_per_s(run, [NO_LIMITER, OURS, *views.SYNC], stock=False, is_async=False)


@benchmark(
    "http-bare-async",
    suite="http",
    metric="requests per second",
    unit="requests/s",
    direction=Direction.HIGHER,
    parameters={"limits": 2, "interface": "asgi", "connections": load.CONNECTIONS},
    targets=targets("async"),
    peers=tuple(views.ASYNC),
)
def bare_async(run: Run) -> Samples:
    return _requests_per_s(run, [NO_LIMITER, OURS, *views.ASYNC], stock=False, is_async=True)


def _requests_per_s(run: Run, limiters: Sequence[str], *, stock: bool, is_async: bool) -> Samples:
    """All servers run all the time, and are loaded in turns."""
    run.client.flushall()
    publish(run)
    # A database of their own: it is emptied before each turn, lest records pile up or are shared.
    peers_url = run.server.url.removesuffix("/0") + "/1"
    absent: dict[str, str] = {}
    taken: dict[str, list[float]] = {}
    with ExitStack() as stack:
        of_peers = stack.enter_context(redis.Redis.from_url(peers_url))
        sites = []
        for limiter in limiters:
            made = Choice(limiter, stock, is_async, peers_url)
            try:
                _import(made)
                site = stack.enter_context(served(run, made))
                of_peers.flushdb()
                verify(site)
            except (NotInstalled, ImportError, WrongAnswer) as reason:
                absent[limiter] = str(reason)
                continue
            sites.append(site)
        for turn in range(-1, max(1, run.rounds // SHARE_OF_ROUNDS)):
            for site in sites if turn % 2 else reversed(sites):
                of_peers.flushdb()
                with cores.pinned(run.load_core):
                    found = load.requests_per_s(f"http://{HOST}:{site.port}/", SLOT_S)
                if turn >= 0:  # The first is the warm-up.
                    taken.setdefault(site.choice.limiter, []).append(found)
    run.client.flushall()
    return Samples({name: tuple(values) for name, values in taken.items()}, absent)


def _import(made: Choice) -> None:
    """Raises NotInstalled here, where it can be told from a server that does not start."""
    if made.limiter in views.SYNC:
        with peers.settings_of_peers(made.peers_url):
            views.make_view(made, "imported", choice.PLENTY)


def publish(run: Run) -> None:
    """Four limits, of which two match either address."""
    rules = [
        Rule(
            number,
            f"limit-{number}",
            Rate(Algorithm.TOKEN_BUCKET, quota, ours.DAY_US, burst=quota),
            path=PathPattern(PathKind.EXACT, path),
        )
        for number, (path, quota) in enumerate(
            [(path, quota) for path, both in _LIMITS.items() for quota in both], 1
        )
    ]
    RulesetStore(run.client, Keys(ours.config(run).key_prefix)).publish(Ruleset(1, tuple(rules)))


_LIMITS = {"/": choice.PLENTY, "/denied": choice.FEW}


@contextmanager
def served(run: Run, made: Choice) -> Iterator[Site]:
    """Under granian with one worker, on the core that this process is pinned to."""
    port = free_port()
    interface = "asgi" if made.is_async else "wsgi"
    command = [sys.executable, "-m", "granian", "--interface", interface, "--host", HOST]
    command += ["--port", str(port), "--workers", "1", "--no-ws", "--log-level", "warning"]
    command += [f"apps.benchmarks.site.{interface}:application"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            dying_with_us(command),
            cwd=ROOT,
            env=_environment(run, made),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            site = Site(made, port)
            if not _answers(process, site):
                log.seek(0)
                said = log.read().decode(errors="replace").strip()
                raise ServerFailed(f"granian did not serve {made.name}: {said}")
            yield site
        finally:
            stop(process)


def _environment(run: Run, made: Choice) -> dict[str, str]:
    """Nothing of ours is taken from the caller's, so that every run serves the same."""
    return {
        "PATH": os.environ["PATH"],
        choice.VARIABLE: made.as_json(),
        "IOTA_DEMO": "1",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "IOTA_IDENTITY_KEY": secrets.token_hex(32),
        "IOTA_KEY_PREFIX": ours.config(run).key_prefix,
        "IOTA_REDIS_TIMEOUT_MS": str(ours.TIMEOUT_MS),
        "REDIS_URL": run.server.url,
    }


def _answers(process: subprocess.Popen[bytes], site: Site) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return site.status("/") == 200
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
    return False


def verify(site: Site) -> None:
    """A limiter lets the smaller quota through and no more; without one all passes."""
    ask = partial(site.status, "/denied")
    few = min(choice.FEW)
    passed = [ask() for _ in range(few)] == [200] * few
    last = ask()
    if not passed or (last == 200) is not (site.choice.limiter == NO_LIMITER):
        raise WrongAnswer(f"{site.choice.name}: a quota of {few} did not hold (then: {last})")
