from __future__ import annotations

import pkgutil
import time
from pathlib import Path

import pytest

from apps.monitoring import hooks
from apps.monitoring.look import Look
from apps.monitoring.registry import Registry, Topic, found_by, load_hooks
from apps.ratelimits.storage.server_findings import Finding, Level


def one(level: Level, code: str) -> Finding:
    return Finding(level, code, "here", "what", "evidence")


@pytest.fixture
def look():
    made = Look()
    yield made
    made.close()


@pytest.fixture
def registry():
    return Registry()


def hook(registry: Registry, name: str, found, **options) -> None:
    registry(name, Topic.REDIS, name.title(), **options)(lambda look: found)


def codes(outcomes) -> list[str]:
    return [finding.code for finding in found_by(outcomes)]


def test_what_the_hooks_find_comes_worst_first(registry, look):
    hook(registry, "fine", [one(Level.INFO, "a")])
    hook(registry, "wrong", iter([one(Level.WARNING, "b"), one(Level.ERROR, "c")]))
    hook(registry, "unknown", [one(Level.UNKNOWN, "d")])
    outcomes = registry.diagnose(look)
    assert codes(outcomes) == ["c", "b", "d", "a"]
    assert [outcome.name for outcome in outcomes] == ["fine", "wrong", "unknown"]
    assert [finding.code for finding in outcomes[1].findings] == ["c", "b"]


def test_a_hook_that_fails_is_a_finding_and_the_others_are_run(registry, look):
    @registry("broken", Topic.LIMITER, "Broken")
    def broken(look):
        yield one(Level.INFO, "a")
        raise KeyError("gone")

    hook(registry, "fine", [one(Level.INFO, "b")])
    failed, *others = found_by(registry.diagnose(look))
    assert (failed.level, failed.code, failed.where) == (Level.ERROR, "hook-failed", "broken")
    assert "KeyError: 'gone'" in failed.evidence
    assert "test_registry.py, line" in failed.evidence
    assert others[-1].code == "b"


def test_a_hook_that_takes_too_long_is_given_up_and_that_is_unknown(registry, look):
    @registry("late", Topic.LIMITER, "Late", limit_s=0.01)
    def late(look):
        for _ in range(1_000):
            time.sleep(0.02)
            yield one(Level.INFO, "a")

    (outcome,) = registry.diagnose(look)
    assert [finding.code for finding in outcome.findings] == ["hook-late", "a"]
    assert outcome.findings[0].level is Level.UNKNOWN
    assert outcome.took_s < 10


def test_some_of_them_are_run_and_progress_is_told(registry, look):
    for name in "abc":
        hook(registry, name, [one(Level.INFO, name)])
    told = []
    outcomes = registry.diagnose(look, ["c", "a"], lambda *said: told.append(said))
    assert codes(outcomes) == ["a", "c"]
    assert told == [(0, 2, "A"), (1, 2, "C"), (2, 2, "")]
    with pytest.raises(ValueError, match="no part is named 'x'; there are a, b, c"):
        registry.diagnose(look, ["x"])


def test_a_name_is_taken_once(registry):
    hook(registry, "a", [])
    with pytest.raises(ValueError, match="two hooks are named 'a'"):
        hook(registry, "a", [])


def test_every_module_of_the_hooks_is_loaded():
    (folder,) = hooks.__path__
    found = {module.name for module in pkgutil.iter_modules([str(Path(folder))])}
    assert found == set(hooks.MODULES)
    assert load_hooks() is load_hooks()


def test_the_guides_three_lists_are_covered():
    parts = {
        topic: [entry.name for entry in load_hooks() if entry.topic is topic] for topic in Topic
    }
    assert parts == {
        Topic.REDIS: ["servers", "latency", "slow-commands", "memory", "expiry"],
        Topic.LIMITER: ["pool", "keys", "clean-up", "requests", "workers"],
        Topic.CONFIGURATION: [
            "ruleset",
            "configuration",
            "variables",
            "cache",
            "start-up",
            "system-checks",
        ],
    }
    assert sum(entry.limit_s for entry in load_hooks()) < 65
