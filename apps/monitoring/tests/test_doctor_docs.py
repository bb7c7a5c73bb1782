"""Every code that a finding can have is explained in docs/guides/doctor.md, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from apps.monitoring.admin.doctor import CURES
from apps.monitoring.registry import Topic, load_hooks

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/guides/doctor.md").read_text()
SOURCES = [
    *(ROOT / "apps/monitoring/hooks").glob("*.py"),
    ROOT / "apps/monitoring/registry.py",
    ROOT / "apps/monitoring/look.py",
    ROOT / "apps/ratelimits/storage/server_findings.py",
]
PLACES = {"Finding": 1, "_wrong": 0}
"""By what makes a finding, which of its arguments is the code."""


def constants(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.IfExp):
        yield from constants(node.body)
        yield from constants(node.orelse)


def codes() -> set[str]:
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = PLACES.get(node.func.id)
                if place is not None and len(node.args) > place:
                    found |= set(constants(node.args[place]))
    return found


def documented() -> set[str]:
    return {
        code
        for line in PAGE.splitlines()
        if line.startswith("| `")
        for code in re.findall(r"`([a-z-]+)`", line.split("|")[1])
    }


def test_every_code_is_explained():
    assert len(codes()) > 50
    assert documented() == codes()


def test_every_part_is_named_under_its_heading():
    for topic in Topic:
        section = PAGE.split(f"## {topic}\n")[1].split("\n## ")[0]
        for entry in load_hooks():
            assert (f"`--only {entry.name}`" in section) == (entry.topic is topic), entry.name


def test_a_page_that_mends_is_named_for_codes_that_there_are():
    assert set(CURES) <= codes()
