"""An engine in this process and one in another, on the same server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from apps.ratelimits.engine import Engine
from apps.ratelimits.models import RateLimit
from apps.ratelimits.policy.decision import Decision
from apps.ratelimits.policy.facts import RequestFacts

ROOT = Path(__file__).resolve().parents[3]
ELSEWHERE = """
import sys, time
import django
django.setup()
from apps.ratelimits.engine import get_engine
from apps.ratelimits.policy.facts import RequestFacts
engine = get_engine()
engine.start()
print("ready", flush=True)
for address in sys.stdin:
    facts = RequestFacts("GET", "/api/test", address.strip())
    decision = engine.check(engine.plan(engine.candidates(facts), facts))
    held = sum(len(lease.uses) for lease in engine.limiter.leases._held.values())
    print(int(decision.allowed), len(engine.limiter.denials), held, flush=True)
"""


class Elsewhere:
    """Another process with an engine of its own, on the same server."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ELSEWHERE],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "iota.settings"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin
        assert self.process.stdout
        self.to, self.told = self.process.stdin, self.process.stdout
        assert self.told.readline() == "ready\n"

    def check(self, address: str) -> tuple[bool, int, int]:
        """Whether it was allowed, how many denials are remembered there, and units held."""
        self.to.write(f"{address}\n")
        self.to.flush()
        allowed, denials, held = self.told.readline().split()
        return allowed == "1", int(denials), int(held)

    def stop(self) -> None:
        self.to.close()
        self.process.wait(10)
        self.told.close()


def check(engine: Engine, address: str) -> Decision:
    facts = RequestFacts("GET", "/api/test", address)
    return engine.check(engine.plan(engine.candidates(facts), facts))


def digests(engine: Engine, address: str) -> tuple[str, ...]:
    facts = RequestFacts("GET", "/api/test", address)
    return engine.plan(engine.candidates(facts), facts).whom


def make(**changes: Any) -> RateLimit:
    """A limit on what they ask about."""
    values: dict[str, Any] = {"name": "one", "quota": 1, "path_kind": "exact", "path": "/api/test"}
    values |= {"algorithm": "fixed_window", "window_unit": 86_400}
    return RateLimit.objects.create(**{**values, **changes})
