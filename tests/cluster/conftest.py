"""The table at the end: ``make test-cluster``."""

from __future__ import annotations

from pathlib import Path

import pytest

from .judging import Row
from .report import as_markdown, as_text

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "var" / "cluster.md"

_rows = pytest.StashKey[list[Row]]()


@pytest.fixture(scope="session")
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """What the table is made of; each scenario adds to it."""
    return request.config.stash.setdefault(_rows, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = terminalreporter.config.stash.get(_rows, [])
    if rows:
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(as_markdown(rows))
        terminalreporter.section("cluster")
        terminalreporter.write_line(as_text(rows))
        terminalreporter.write_line(f"also in {REPORT.relative_to(ROOT)}")
