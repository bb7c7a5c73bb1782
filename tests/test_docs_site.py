"""The docs as a site: every page is in it, nothing leads nowhere, nothing comes from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .docs_commands import ROOT

DOCS = ROOT / "docs"
FROM_ELSEWHERE = re.compile(
    r"<(?:script|img|source|iframe)[^>]+src=\"(?:https?:)?//|<link[^>]+rel=\"(?:stylesheet|preload|preconnect)\""
    r"[^>]+href=\"(?:https?:)?//|url\([\"']?(?:https?:)?//|@import [\"'](?:https?:)?//"
)


def build(docs: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet"]
    command += ["--doctree-dir", str(site.with_name("work")), str(docs), str(site)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    built = build(DOCS, folder)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_is_in_the_site_and_in_its_navigation(site):
    start = (site / "index.html").read_text()
    tree = start[start.index('class="sidebar-tree"') : start.index('class="main"')]
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix(".html").as_posix()
        assert (site / name).exists(), name
        if name != "index.html":
            assert f'href="{name}"' in tree, name


def test_nothing_is_loaded_from_elsewhere(site):
    files = [one for one in site.rglob("*") if one.suffix in {".html", ".css"}]
    assert len(files) > 50
    assert [one.name for one in files if FROM_ELSEWHERE.search(one.read_text())] == []
    assert FROM_ELSEWHERE.search('<script src="https://cdn.example.com/a.js">')


def test_both_schemes_of_a_drawing_are_shown_by_the_pages_own_switch(site):
    page = (site / "overview/algorithms.html").read_text()
    for scheme in ("light", "dark"):
        assert re.search(rf'class="only-{scheme}[^>]+token_bucket-{scheme}\.svg', page)
    assert "<source" not in page


def test_the_changelog_is_a_page(site):
    assert "Unreleased" in (site / "changelog.html").read_text()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("[x](nowhere.md)", "nowhere.md"),
        ("[x](guides/alerts.md#no-such-part)", "no-such-part"),
        ("![x](images/none.png)", "none.png"),
    ],
)
def test_what_leads_nowhere_fails(tmp_path, broken, said):
    docs = tmp_path / "docs"
    (docs / "guides").mkdir(parents=True)
    # Without the navigation, which needs all pages.
    text = (DOCS / "conf.py").read_text()
    (docs / "conf.py").write_text(text.replace('app.connect("source-read", added)', "pass"))
    (docs / "_static").mkdir()
    shutil.copy(DOCS / "_static/iota.css", docs / "_static/iota.css")
    (docs / "guides/alerts.md").write_text("---\norphan: true\n---\n# Alerts\n\n## What to do\n")
    (docs / "index.md").write_text("# A page\n\n[here](guides/alerts.md#what-to-do)\n")
    assert build(docs, tmp_path / "good").returncode == 0
    (docs / "index.md").write_text(f"# A page\n\n{broken}\n")
    built = build(docs, tmp_path / "site")
    assert built.returncode != 0
    assert said in built.stderr
