"""Hooks by name, registered with a decorator where they are written (``hooks/``).

A hook looks at one thing, in bounded time and changing nothing, and yields what it finds.
"""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from apps.ratelimits.storage.server_findings import Finding, Level, worst_first

from . import hooks
from .look import Look

Hook = Callable[[Look], Iterable[Finding]]
Progress = Callable[[int, int, str], None]
"""Told how many hooks are done, of how many, and the title of the one that begins."""

LIMIT_S = 3.0


class Topic(StrEnum):
    """What people come with."""

    REDIS = "High Redis latency"
    LIMITER = "Rate limiter performance"
    CONFIGURATION = "Configuration performance"


@dataclass(frozen=True, slots=True)
class Entry:
    """A hook. ``limit_s``: it is given up after so long, at the next thing that it finds."""

    name: str
    topic: Topic
    title: str
    hook: Hook
    limit_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a hook found, the worst first, and how long it took."""

    name: str
    topic: Topic
    title: str
    took_s: float
    findings: tuple[Finding, ...]


class Registry:
    """In the order of registration."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __call__(
        self, name: str, topic: Topic, title: str, *, limit_s: float = LIMIT_S
    ) -> Callable[[Hook], Hook]:
        """Decorate a hook. Raises ValueError where the name is taken."""

        def register(hook: Hook) -> Hook:
            if name in self._entries:
                raise ValueError(f"two hooks are named {name!r}: rename one")
            self._entries[name] = Entry(name, topic, title, hook, limit_s)
            return hook

        return register

    def order(self, modules: Sequence[str]) -> None:
        """As these modules are ordered, whichever was imported first."""
        places = {f"{hooks.__name__}.{module}": place for place, module in enumerate(modules)}
        self._entries = dict(
            sorted(self._entries.items(), key=lambda item: places[item[1].hook.__module__])
        )

    def choose(self, names: Collection[str]) -> list[Entry]:
        """Those of these names, or all. Raises ValueError for a name that is not there."""
        unknown = [name for name in names if name not in self._entries]
        if unknown:
            known = ", ".join(self._entries)
            raise ValueError(f"no part is named {unknown[0]!r}; there are {known}")
        return [entry for entry in self if not names or entry.name in names]

    def diagnose(
        self, look: Look, only: Collection[str] = (), progress: Progress | None = None
    ) -> list[Outcome]:
        """What the hooks find. One that fails is a finding itself. Raises ValueError for a name in
        ``only`` that is not there."""
        chosen = self.choose(only)
        outcomes = []
        for done, entry in enumerate(chosen):
            if progress:
                progress(done, len(chosen), entry.title)
            outcomes.append(_run(entry, look))
        if progress:
            progress(len(chosen), len(chosen), "")
        return outcomes


def found_by(outcomes: Iterable[Outcome]) -> list[Finding]:
    """What all of them found, the worst first."""
    return worst_first([finding for outcome in outcomes for finding in outcome.findings])


def _run(entry: Entry, look: Look) -> Outcome:
    findings: list[Finding] = []
    began_s = time.monotonic()
    try:
        for finding in entry.hook(look):
            findings.append(finding)
            if time.monotonic() - began_s > entry.limit_s:
                findings.append(_late(entry))
                break
    except Exception as error:
        findings.append(_failed(entry.name, error))
    took_s = time.monotonic() - began_s
    return Outcome(entry.name, entry.topic, entry.title, took_s, tuple(worst_first(findings)))


def _late(entry: Entry) -> Finding:
    return Finding(
        Level.UNKNOWN,
        "hook-late",
        entry.name,
        "This part of the diagnosis was given up: what it had not yet looked at is not known.",
        f"it took longer than {entry.limit_s:g} s",
        f"See what holds it up, then `manage.py doctor --only {entry.name}`.",
    )


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
    finding.order(hooks.MODULES)
    return finding
