"""What the docs say can be done is done here; their commands in test_docs_commands."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def test_the_readmes_example_runs_as_it_stands(redis_server, redis_client):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    environment = {
        "PATH": os.environ["PATH"],
        "IOTA_DEMO": "1",
        "SECRET_KEY": "s" * 40,
        "IOTA_IDENTITY_KEY": "i" * 40,
        "REDIS_URL": redis_server.url,
    }
    command = [sys.executable, "-W", "error", "-c", example]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("True 100 99 0\n", "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    lost = []
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]+)?\)", page.read_text()):
        target = (page.parent / link) if link else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link + anchor)
    assert lost == []


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        said = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", said).replace(" ", "-")
        found.add(f"#{slug}")
    return found


def test_pictures_are_there_and_each_is_shown():
    shown = set()
    for page in PAGES:
        for file in re.findall(
            r"(?:\]\(|src=\"|srcset=\")([^)\"]+\.(?:png|svg))", page.read_text()
        ):
            assert (page.parent / file).exists(), f"{page.name}: {file}"
            shown.add((page.parent / file).resolve())
    assert {path.resolve() for path in (ROOT / "docs/images").rglob("*.*")} - shown == set()


@pytest.mark.parametrize(
    ("page", "example"),
    [
        (str(page.relative_to(ROOT)), example)
        for page in PAGES
        for example in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)
    ],
)
def test_examples_in_python_compile_and_import_what_there_is(page, example):
    parsed = ast.parse(example)
    compile(parsed, page, "exec")
    for one in ast.walk(parsed):
        if isinstance(one, ast.ImportFrom) and one.module:
            # From the wheel it has another name.
            name = re.sub(r"^iota_ratelimits\b", "apps.ratelimits", one.module)
            if name.split(".")[0] in {"apps", "iota", "django", "rest_framework"}:
                module = importlib.import_module(name)
                assert [part.name for part in one.names if not hasattr(module, part.name)] == []


def test_every_page_of_the_docs_is_linked_from_the_readme():
    linked = (ROOT / "README.md").read_text()
    pages = [str(page.relative_to(ROOT)) for page in PAGES if "decisions" not in page.parts]
    assert [page for page in pages if page != "README.md" and page not in linked] == []


def test_every_guarantee_names_tests_that_exist():
    page = (ROOT / "docs/overview/guarantees.md").read_text().split("## Nothing leaks")[0]
    rows = [line for line in page.splitlines() if line.startswith("| ") and "---" not in line]
    promises = [row for row in rows if not row.startswith("| promise |")]
    assert len(promises) >= 15
    for row in promises:
        shown_by = re.findall(r"`([\w/.]+\.py)::(\w+)`", row.rsplit(" | ", 1)[1])
        assert shown_by, row
        for path, name in shown_by:
            assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.M), name
