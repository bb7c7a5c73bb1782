"""The sites under load, and the table at the end: ``make test-faults``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .faults import Ground
from .report import Row, as_markdown, as_text
from .scenario import Stage, measure_base
from .site import make_database, start_sites

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "var" / "faults.md"

_rows = pytest.StashKey[list[Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-server", default="valkey", help="valkey or redis (Debian's)")


@pytest.fixture(scope="session")
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """What the table is made of; each scenario adds to it."""
    return request.config.stash.setdefault(_rows, [])


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--faults-server"))


@pytest.fixture(scope="session")
def near(
    template: Path, flavour: str, rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """Sites beside their server."""
    yield from _stage(template, flavour, rows, tmp_path_factory.mktemp("near"), on_network=False)


@pytest.fixture(scope="session")
def far(
    template: Path, flavour: str, rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """Sites that reach their server through a network."""
    yield from _stage(template, flavour, rows, tmp_path_factory.mktemp("far"), on_network=True)


def _stage(
    template: Path, flavour: str, rows: list[Row], folder: Path, *, on_network: bool
) -> Iterator[Stage]:
    ground = Ground(flavour)
    try:
        url = ground.network.url if on_network else ground.server.url
        sites = start_sites(folder, template, url)
        try:
            stage = Stage(ground, sites)
            rows += measure_base(stage, "none, over the network" if on_network else "none")
            yield stage
        finally:
            for site in sites:
                site.stop()
    finally:
        ground.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = terminalreporter.config.stash.get(_rows, [])
    if rows:
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(as_markdown(rows))
        terminalreporter.section("faults")
        terminalreporter.write_line(as_text(rows))
        terminalreporter.write_line(f"also in {REPORT.relative_to(ROOT)}")
