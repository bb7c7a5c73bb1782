"""The guides of ``docs/guides``, read where they are needed: in the admin, from an alert."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import markdown
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "guides"
ALERTS = "alerts"
_LINK = re.compile(r'href="(?!https?:|#|/)(?:\./)?([a-z0-9-]+)\.md(#[a-z0-9-]+)?"')


@dataclass(frozen=True, slots=True)
class Guide:
    title: str
    html: SafeString


def link(guide: str) -> str:
    """Of a rule's ``guide``: a heading of the guide of alerts, or an address."""
    if guide.startswith("#"):
        return reverse("admin:monitoring_guide", args=[ALERTS]) + guide
    return guide


@cache
def read(name: str) -> Guide:
    """Raises FileNotFoundError."""
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    title, _, body = text.partition("\n")
    # Our own text, from the repository: nobody else's mark-up is in it.
    html = markdown.markdown(body, extensions=["tables", "fenced_code", "toc", "sane_lists"])
    html = _LINK.sub(_of_guide, html)
    return Guide(title.lstrip("# ").strip(), mark_safe(html))  # noqa: S308


def _of_guide(found: re.Match[str]) -> str:
    return f'href="{reverse("admin:monitoring_guide", args=[found[1]])}{found[2] or ""}"'
