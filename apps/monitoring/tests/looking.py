"""One hook on one server, as tests run it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from apps.monitoring.look import Look
from apps.monitoring.registry import load_hooks
from apps.ratelimits import conf
from apps.ratelimits.engine import Engine
from apps.ratelimits.storage.server_findings import Finding


@contextmanager
def looking(url: str, **changes: Any) -> Iterator[Look]:
    current: Any = conf.current()
    config = replace(current, **{"redis_operator_url": "", "redis_url": url, **changes})
    engine = Engine(config)
    look = Look(engine)
    try:
        yield look
    finally:
        look.close()
        engine.limiter.close()


def find(name: str, url: str, **changes: Any) -> list[Finding]:
    """What the hook of this name finds."""
    with looking(url, **changes) as look:
        (outcome,) = load_hooks().diagnose(look, [name])
    return list(outcome.findings)


def codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]
