from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest

from apps.monitoring import hooks
from apps.monitoring.registry import Registry, load_hooks
from apps.ratelimits.storage.server_findings import Finding, Level


def one(level: Level, code: str) -> Finding:
    return Finding(level, code, "here", "what", "evidence")


def test_what_the_hooks_find_comes_worst_first():
    registry = Registry()
    registry("fine")(lambda: [one(Level.INFO, "a")])
    registry("wrong")(lambda: iter([one(Level.WARNING, "b"), one(Level.ERROR, "c")]))
    registry("unknown")(lambda: [one(Level.UNKNOWN, "d")])
    assert [finding.code for finding in registry.diagnose()] == ["c", "b", "d", "a"]


def test_a_hook_that_fails_is_a_finding_and_the_others_are_run():
    registry = Registry()

    @registry("broken")
    def broken():
        yield one(Level.INFO, "a")
        raise KeyError("gone")

    registry("fine")(lambda: [one(Level.INFO, "b")])
    failed, *others = registry.diagnose()
    assert (failed.level, failed.code, failed.where) == (Level.ERROR, "hook-failed", "broken")
    assert "KeyError: 'gone'" in failed.evidence
    assert "test_registry.py, line" in failed.evidence
    assert others[-1].code == "b"


def test_a_name_is_taken_once():
    registry = Registry()
    registry("a")(list)
    with pytest.raises(ValueError, match="two hooks are named 'a'"):
        registry("a")(list)


def test_every_module_of_the_hooks_is_loaded():
    (folder,) = hooks.__path__
    found = {module.name for module in pkgutil.iter_modules([str(Path(folder))])}
    assert found == set(hooks.MODULES)
    assert load_hooks() is load_hooks()
