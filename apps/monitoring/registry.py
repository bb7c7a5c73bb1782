"""Hooks by name, registered with a decorator where they are written (``hooks/``).

A hook looks at one thing, in bounded time and changing nothing, and yields what it finds.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable, Iterable

from apps.ratelimits.storage.server_findings import Finding, Level, worst_first

from . import hooks

Hook = Callable[[], Iterable[Finding]]


class Registry:
    """In the order of registration."""

    def __init__(self) -> None:
        self._hooks: dict[str, Hook] = {}

    def __call__(self, name: str) -> Callable[[Hook], Hook]:
        """Decorate a hook. Raises ValueError where the name is taken."""

        def register(hook: Hook) -> Hook:
            if name in self._hooks:
                raise ValueError(f"two hooks are named {name!r}: rename one")
            self._hooks[name] = hook
            return hook

        return register

    def diagnose(self) -> list[Finding]:
        """What all hooks find, the worst first. One that fails is a finding itself."""
        findings: list[Finding] = []
        for name, hook in self._hooks.items():
            try:
                findings += hook()
            except Exception as error:
                findings.append(_failed(name, error))
        return worst_first(findings)


def _failed(name: str, error: Exception) -> Finding:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return Finding(
        Level.ERROR,
        "hook-failed",
        name,
        "This part of the diagnosis failed: what it looks at is not known.",
        f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})",
        "Report it: a hook must not fail.",
    )


finding = Registry()


def load_hooks() -> Registry:
    """All hooks, after their modules were imported."""
    for module in hooks.MODULES:
        importlib.import_module(f"{hooks.__name__}.{module}")
    return finding
