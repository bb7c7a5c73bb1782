"""The docs as a site: ``make docs``. The pages are plain Markdown, which GitHub shows as well.

What only the site has is added as pages are read: the navigation, which is the README's order; the
CHANGELOG; and pictures of two colour schemes, which follow the switch of the page.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

project = "IOTA"
author = "IOTA"
copyright = "the authors of IOTA"
html_title = "IOTA"
extensions = ["myst_parser", "sphinx_copybutton"]
exclude_patterns = ["_static"]
myst_heading_anchors = 4
highlight_language = "text"
smartquotes = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["iota.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"sidebar_hide_name": False}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_prompt_text = "$ "

SECTIONS = {
    "": "Start",
    "In a site of your own": "Start",
    "Limits": "Limits",
    "Operation": "Operation",
    "In production": "Operation",
    "How it works": "How it works",
}
"""Headings of the README, and the part of the navigation that their pages belong to; pages of any
other heading stand under "More". The pages of a heading keep its order."""

OUTSIDE = {"../../CHANGELOG.md": "../changelog.md", "../../README.md": "../index.md"}
"""Pages outside docs/, as those in its folders link them, and what the site has instead."""

PICTURE = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\s*'
    r'<img src="([^"]+)" alt="([^"]+)">\s*</picture>'
)


def navigation(readme: str) -> str:
    """The trees of contents, from where the README links each page first."""
    parts: dict[str, list[str]] = {part: [] for part in [*SECTIONS.values(), "More"]}
    seen = {"index", "changelog"}
    intro, *rest = re.split(r"^## (.+)$", readme, flags=re.M)
    for heading, section in [("", intro), *zip(rest[::2], rest[1::2], strict=True)]:
        for page in re.findall(r"\]\(docs/([\w/-]+)\.md", section):
            if page not in seen and not page.startswith(("reference/", "decisions/")):
                seen.add(page)
                parts[SECTIONS.get(heading, "More")].append(page)
    trees = [toctree(part, pages) for part, pages in parts.items() if pages]
    trees.append(toctree("Reference", ["reference/*"], glob=True))
    trees.append(toctree("About", ["decisions/index", "changelog"]))
    return "\n".join(trees)


def toctree(caption: str, pages: list[str], *, glob: bool = False) -> str:
    options = [":hidden:", f":caption: {caption}", *([":glob:"] if glob else [])]
    return "\n".join(["```{toctree}", *options, "", *pages, "```", ""])


def added(app: Sphinx, page: str, source: list[str]) -> None:
    text = source[0]
    if page == "changelog":
        text = (ROOT / "CHANGELOG.md").read_text().replace("](docs/", "](")
    text = PICTURE.sub(two_pictures, text)
    for outside, inside in OUTSIDE.items():
        text = text.replace(f"]({outside}", f"]({inside}")
    if page == "index":
        text += "\n" + navigation((ROOT / "README.md").read_text())
    if page == "decisions/index":
        text += "\n```{toctree}\n:glob:\n:maxdepth: 1\n\n0*\n```\n"
    source[0] = text


def two_pictures(found: re.Match[str]) -> str:
    dark, light, says = found.groups()
    return "\n".join(
        f"```{{image}} {file}\n:alt: {says}\n:class: only-{scheme}\n```"
        for file, scheme in ((light, "light"), (dark, "dark"))
    )


def setup(app: Sphinx) -> None:
    app.connect("source-read", added)
