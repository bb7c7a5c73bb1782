"""Pictures of pages for the docs, where IOTA_PICTURES names a folder for them."""

from __future__ import annotations

import os
from pathlib import Path

from playwright.sync_api import Page


def picture(page: Page, name: str) -> None:
    folder = os.environ.get("IOTA_PICTURES")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")
