"""Pieces of the Markdown that both GitHub and the site understand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: int = 0) -> str:
    """The last ``right`` columns hold numbers."""
    rules = ["---"] * (len(header) - right) + ["---:"] * right
    lines = [header, rules, *([cell(text) for text in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def cell(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("|", "\\|")).strip()


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def prose(text: str) -> str:
    """Of a docstring: its double backticks are single ones here, and it begins a sentence."""
    said = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text.strip()).replace("``", "`")
    return said[:1].upper() + said[1:]


def first_paragraph(docstring: str | None) -> str:
    return prose(re.sub(r"\s+", " ", (docstring or "").strip().split("\n\n")[0]))


def sentence(text: str) -> str:
    """With a full stop, and with links where it names pages of the docs."""
    said = prose(text)
    said = re.sub(r"docs/((?:guides|overview)/[\w-]+\.md)", r"[docs/\1](../\1)", said)
    return said if not said or said.endswith((".", "?", "!", ")")) else f"{said}."
